// The text forms of types.
#include <algorithm>

#include "base/limits.h"
#include "table/type.h"
#include "table/type_names.h"

namespace headrace::table {
namespace {

// A recursive-descent reader of type texts.
class TypeParser {
 public:
  explicit TypeParser(std::string_view text) : text_(text) {}

  Result<Type> Parse() {
    HEADRACE_ASSIGN(Type type, One(0));
    Space();
    if (at_ != text_.size()) return Bad();
    return type;
  }

 private:
  Status Bad() const {
    return Status::Invalid("'" + std::string(text_) +
                           "' is not a type (try int64, string, list<string>, tensor<float32>[384], blob)");
  }
  void Space() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool Eat(char c) {
    Space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string Word() {
    Space();
    const size_t begin = at_;
    while (at_ < text_.size() && (isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
      ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  Result<Type> One(int depth) {
    if (depth > limits::kMaxNesting)
      return Status::Limit("types may nest " + std::to_string(limits::kMaxNesting) + " deep");
    const std::string word = Word();
    Type type;
    bool known = false;
    for (const auto& info : kKinds) {
      if (word == info.name) {
        type.kind = info.kind;
        known = true;
      }
    }
    if (!known) return Bad();
    switch (type.kind) {
      case Kind::kTimestamp:
        return Timestamp(std::move(type));
      case Kind::kTime:
      case Kind::kDuration:
        if (Eat('[') && (!Unit(&type.unit) || !Eat(']'))) return Bad();
        return type;
      case Kind::kDecimal:
        return Decimal(std::move(type));
      case Kind::kFixedBinary:
        if (!Eat('[') || !Count(&type.width) || !Eat(']')) return Bad();
        return type;
      case Kind::kTensor:
        return Tensor(std::move(type));
      case Kind::kBlob:
        type.children = BlobFields();
        return type;
      case Kind::kList: {
        if (!Eat('<')) return Bad();
        HEADRACE_ASSIGN(Type item, One(depth + 1));
        if (!Eat('>')) return Bad();
        type.children.push_back({-1, "item", std::move(item), "", false});
        return type;
      }
      case Kind::kMap: {
        if (!Eat('<')) return Bad();
        HEADRACE_ASSIGN(Type key, One(depth + 1));
        if (!Eat(',')) return Bad();
        HEADRACE_ASSIGN(Type value, One(depth + 1));
        if (!Eat('>')) return Bad();
        type.children.push_back({-1, "key", std::move(key), "", false});
        type.children.push_back({-1, "value", std::move(value), "", false});
        return type;
      }
      case Kind::kStruct: {
        if (!Eat('<')) return Bad();
        do {
          Field child;
          if (!Name(&child.name) || !Eat(':')) return Bad();
          HEADRACE_ASSIGN(child.type, One(depth + 1));
          type.children.push_back(std::move(child));
        } while (Eat(','));
        if (!Eat('>')) return Bad();
        return type;
      }
      case Kind::kBFloat16:
        return Bad();
      default:
        return type;
    }
  }

  // A word, or any text in double quotes, where "" is a quote.
  bool Name(std::string* name) {
    if (!Eat('"')) return !(*name = Word()).empty();
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"' && text_.substr(at_, 2) != "\"\"") return ++at_, true;
      if (text_[at_] == '"') ++at_;
      *name += text_[at_];
    }
    return false;
  }

  bool Unit(TimeUnit* unit) {
    const std::string word = Word();
    for (size_t i = 0; i < std::size(kUnits); ++i) {
      if (word != kUnits[i]) continue;
      *unit = static_cast<TimeUnit>(i);
      return true;
    }
    return false;
  }

  // A whole number of at most nine digits.
  bool Count(int32_t* count) {
    const std::string word = Word();
    if (word.empty() || word.size() > 9 || word.find_first_not_of("0123456789") != std::string::npos)
      return false;
    *count = static_cast<int32_t>(std::stol(word));
    return true;
  }

  Result<Type> Decimal(Type type) {
    if (!Eat('(') || !Count(&type.precision)) return Bad();
    if (Eat(',') && !Count(&type.scale)) return Bad();
    if (!Eat(')')) return Bad();
    if (type.precision < 1 || type.precision > kMaxPrecision || type.scale > type.precision) {
      return Status::Invalid("'" + std::string(text_) + "': a decimal has 1 to " +
                             std::to_string(kMaxPrecision) +
                             " digits, and at most all of them after the point");
    }
    return type;
  }

  Result<Type> Timestamp(Type type) {
    if (!Eat('[')) return type;
    if (!Unit(&type.unit)) return Bad();
    if (Eat(',')) {
      Space();
      const size_t end = text_.find(']', at_);
      if (end == std::string_view::npos) return Bad();
      type.zone = std::string(text_.substr(at_, end - at_));
      at_ = end;
    }
    if (!Eat(']')) return Bad();
    return type;
  }

  Result<Type> Tensor(Type type) {
    if (!Eat('<')) return Bad();
    const std::string element = Word();
    bool known = false;
    for (const auto& info : kKinds) {
      if (element == info.name && IsTensorElement(info.kind)) {
        type.element = info.kind;
        known = true;
      }
    }
    if (!known || !Eat('>') || !Eat('[')) return Bad();
    do {
      int32_t extent = 0;
      if (!Count(&extent)) return Bad();
      type.shape.push_back(extent);
    } while (Eat(','));
    if (!Eat(']')) return Bad();
    const int64_t elements = type.tensor_elements();
    if (elements < 1 || elements > limits::kMaxTensorElements) {
      return Status::Limit("a tensor cell holds 1 to " + std::to_string(limits::kMaxTensorElements) +
                           " elements");
    }
    return type;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// As TypeParser::Name reads it.
std::string Written(const std::string& name) {
  const bool word = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  });
  if (word) return name;
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string Type::ToString() const {
  switch (kind) {
    case Kind::kTimestamp:
      return std::string("timestamp[") + kUnits[static_cast<int>(unit)] + (zone.empty() ? "" : ", " + zone) +
             "]";
    case Kind::kTime:
    case Kind::kDuration:
      return std::string(KindName(kind)) + "[" + kUnits[static_cast<int>(unit)] + "]";
    case Kind::kDecimal:
      return "decimal(" + std::to_string(precision) + ", " + std::to_string(scale) + ")";
    case Kind::kFixedBinary:
      return "fixed_binary[" + std::to_string(width) + "]";
    case Kind::kList:
      return "list<" + children[0].type.ToString() + ">";
    case Kind::kMap:
      return "map<" + children[0].type.ToString() + ", " + children[1].type.ToString() + ">";
    case Kind::kStruct: {
      std::string text = "struct<";
      for (size_t i = 0; i < children.size(); ++i) {
        text += (i ? ", " : "") + Written(children[i].name) + ": " + children[i].type.ToString();
      }
      return text + ">";
    }
    case Kind::kTensor: {
      std::string text = std::string("tensor<") + KindName(element) + ">[";
      for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
      return text + "]";
    }
    default:
      return KindName(kind);
  }
}

Result<Type> ParseType(std::string_view text) { return TypeParser(text).Parse(); }

}  // namespace headrace::table
