#include "ingest/json_types.h"

#include <arrow/type.h>
#include <arrow/util/value_parsing.h>

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "ingest/exact_numbers.h"
#include "table/schema.h"

namespace headrace::ingest {
namespace {

using table::Kind;

constexpr size_t kMostFields = 256;   // of a struct; objects with more keys are json
constexpr size_t kShortInteger = 15;  // digits that int64 and float64 hold

enum : uint8_t { kBools = 1, kNumbers = 2, kTexts = 4, kLists = 8, kObjects = 16 };

uint8_t BitOf(JsonKind kind) {
  switch (kind) {
    case JsonKind::kTrue:
    case JsonKind::kFalse:
      return kBools;
    case JsonKind::kNumber:
      return kNumbers;
    case JsonKind::kString:
      return kTexts;
    case JsonKind::kArray:
      return kLists;
    case JsonKind::kObject:
      return kObjects;
    default:
      return 0;
  }
}

table::Type Of(Kind kind) {
  table::Type type;
  type.kind = kind;
  return type;
}

bool OneBit(uint8_t kinds) { return (kinds & (kinds - 1)) == 0; }

// Names that a struct may have: valid, and different for SQL, which does not tell cases apart.
bool GoodNames(const std::vector<std::pair<std::string, std::unique_ptr<JsonGuess>>>& fields) {
  std::set<std::string> lower;
  for (const auto& [name, guess] : fields) {
    if (!table::ValidateName("field", name).ok()) return false;
    std::string folded = name;
    std::transform(folded.begin(), folded.end(), folded.begin(),
                   [](unsigned char c) { return static_cast<char>(c < 0x80 ? tolower(c) : c); });
    if (!lower.insert(std::move(folded)).second) return false;
  }
  return true;
}

bool Digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::optional<TimeForm> TimeForm::Of(std::string_view text) {
  constexpr size_t kDate = 10, kSeconds = 19;  // 2024-02-29 and 2024-02-29T10:00:00
  if (text.size() < kDate || text[4] != '-' || text[7] != '-') return std::nullopt;
  TimeForm form;
  if (text.size() == kDate) {
    arrow::Date32Type::c_type days = 0;
    if (!arrow::internal::ParseValue(arrow::Date32Type(), text.data(), text.size(), &days))
      return std::nullopt;
    return form;
  }
  form.separator = text[kDate];
  if (text.size() < kSeconds || (form.separator != 'T' && form.separator != ' ')) return std::nullopt;
  std::string_view rest = text.substr(kSeconds);
  if (rest.ends_with('Z')) {
    form.utc = true;
    rest.remove_suffix(1);
  }
  if (!rest.empty()) {
    if (rest[0] != '.' || !Digits(rest.substr(1))) return std::nullopt;
    form.fraction = static_cast<int>(rest.size()) - 1;
  }
  if (form.fraction != 0 && form.fraction != 3 && form.fraction != 6 && form.fraction != 9)
    return std::nullopt;
  const std::string_view year = text.substr(0, 4);
  if (form.fraction == 9 && (year < "1678" || year > "2261")) return std::nullopt;  // of 64 bits
  const arrow::TimestampType type(static_cast<arrow::TimeUnit::type>(form.fraction / 3));
  int64_t ticks = 0;
  const std::string_view wall = form.utc ? text.substr(0, text.size() - 1) : text;
  if (!arrow::internal::ParseValue(type, wall.data(), wall.size(), &ticks)) return std::nullopt;
  return form;
}

table::Type TimeForm::Type() const {
  table::Type type;
  type.kind = separator == 0 ? Kind::kDate : Kind::kTimestamp;
  if (separator == 0) return type;
  type.unit = static_cast<table::TimeUnit>(fraction / 3);
  if (utc) type.zone = "UTC";
  return type;
}

void JsonGuess::BecomeJson() {
  json_ = true;
  item_.reset();
  fields_.clear();
  index_.clear();
}

void JsonGuess::Add(const JsonTape& tape, uint32_t value) {
  ++times_;
  const JsonValue& node = tape[value];
  if (node.kind == JsonKind::kNull || json_) return;
  kinds_ |= BitOf(node.kind);
  if (!OneBit(kinds_)) return BecomeJson();
  switch (node.kind) {
    case JsonKind::kNumber:
      return AddNumber(tape.Inner(value), node);
    case JsonKind::kString:
      return AddText(tape, value);
    case JsonKind::kArray:
      if (!item_) item_ = std::make_unique<JsonGuess>();
      for (uint32_t i = value + 1; i < node.next; i = tape[i].next) item_->Add(tape, i);
      return;
    case JsonKind::kObject:
      AddObject(tape, value, kMostFields);
      if (fields_.size() > kMostFields) BecomeJson();
      return;
    default:
      return;
  }
}

void JsonGuess::AddRow(const JsonTape& tape, uint32_t object) {
  AddObject(tape, object, static_cast<size_t>(limits::kMaxColumns));
}

void JsonGuess::AddObject(const JsonTape& tape, uint32_t object, size_t most_fields) {
  ++objects_;
  size_t hint = 0;
  for (uint32_t i = object + 1; i < tape[object].next; i = tape[i + 1].next, ++hint) {
    if (fields_.size() > most_fields) return;
    JsonGuess* field = tape[i].escaped ? FieldNamed(tape.Text(i), hint) : FieldNamed(tape.Inner(i), hint);
    field->Add(tape, i + 1);
  }
}

JsonGuess* JsonGuess::FieldNamed(std::string_view name, size_t hint) {
  if (hint < fields_.size() && fields_[hint].first == name) return fields_[hint].second.get();
  const auto known = index_.find(name);
  if (known != index_.end()) return fields_[known->second].second.get();
  index_.emplace(std::string(name), fields_.size());
  return fields_.emplace_back(std::string(name), std::make_unique<JsonGuess>()).second.get();
}

void JsonGuess::AddNumber(std::string_view text, const JsonValue& number) {
  if (!number.finite || !number.whole) {
    int64_ = uint64_ = false;
    fractions_ = true;
    if (number.finite && double_) double_ = IsExactDouble(text);
    return;
  }
  if (text.size() <= kShortInteger && text != "-0") {
    if (text[0] == '-') uint64_ = false;
    return;
  }
  fractions_ |= text == "-0";
  int64_t signed_value = 0;
  uint64_t unsigned_value = 0;
  if (int64_) int64_ = ParseInteger(text, &signed_value);
  if (uint64_) uint64_ = ParseInteger(text, &unsigned_value);
  if (double_) double_ = IsExactDouble(text);
}

void JsonGuess::AddText(const JsonTape& tape, uint32_t value) {
  if (!time_) return;
  const auto form = tape[value].escaped ? std::nullopt : TimeForm::Of(tape.Inner(value));
  if (!form_ && form) form_ = form;
  time_ = form.has_value() && form_ == form;
}

void JsonGuess::Merge(JsonGuess&& other) {
  times_ += other.times_;
  kinds_ |= other.kinds_;
  objects_ += other.objects_;
  int64_ &= other.int64_;
  uint64_ &= other.uint64_;
  double_ &= other.double_;
  fractions_ |= other.fractions_;
  time_ &= other.time_ && (!form_ || !other.form_ || form_ == other.form_);
  if (!form_) form_ = other.form_;
  json_ |= other.json_;
  if (json_ || !OneBit(kinds_)) return BecomeJson();
  if (!item_) {
    item_ = std::move(other.item_);
  } else if (other.item_) {
    item_->Merge(std::move(*other.item_));
  }
  for (auto& [name, guess] : other.fields_) FieldNamed(name, 0)->Merge(std::move(*guess));
}

std::optional<table::Type> JsonGuess::Type(int depth) const {
  if (kinds_ == 0) return std::nullopt;
  if (json_ || !OneBit(kinds_)) return Of(Kind::kJson);
  switch (kinds_) {
    case kBools:
      return Of(Kind::kBool);
    case kNumbers:
      if (int64_ || uint64_) return Of(int64_ ? Kind::kInt64 : Kind::kUInt64);
      return Of(double_ && fractions_ ? Kind::kFloat64 : Kind::kJson);
    case kTexts:
      return time_ && form_ ? form_->Type() : Of(Kind::kString);
    case kLists: {
      if (depth >= limits::kMaxNesting) return Of(Kind::kJson);
      table::Type type = Of(Kind::kList);
      table::Field item;
      item.name = "item";
      item.type = item_->Type(depth + 1).value_or(Of(Kind::kJson));
      type.children.push_back(std::move(item));
      return type;
    }
    default:
      return StructType(depth);
  }
}

// Objects are a struct where all have the same keys: in a struct, a key that is missing would come back as
// null.
std::optional<table::Type> JsonGuess::StructType(int depth) const {
  const bool same = std::all_of(fields_.begin(), fields_.end(),
                                [&](const auto& field) { return field.second->times_ == objects_; });
  if (!same || fields_.empty() || fields_.size() > kMostFields || depth >= limits::kMaxNesting ||
      !GoodNames(fields_)) {
    return Of(Kind::kJson);
  }
  table::Type type = Of(Kind::kStruct);
  for (const auto& [name, guess] : fields_) {
    table::Field field;
    field.name = name;
    field.type = guess->Type(depth + 1).value_or(Of(Kind::kJson));
    type.children.push_back(std::move(field));
  }
  return type;
}

}  // namespace headrace::ingest
