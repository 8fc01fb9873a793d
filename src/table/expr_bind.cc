#include <algorithm>

#include "base/clock.h"
#include "table/expr.h"

namespace headrace::table {
namespace {

const char* TypeName(ValueType type) {
  static constexpr const char* kNames[] = {"null", "bool", "integer",   "float",
                                           "text", "date", "timestamp", "timestamp[ns]"};
  return kNames[static_cast<int>(type)];
}

Result<ValueType> TypeOfField(const Field& field, const std::string& text) {
  switch (field.type.kind) {
    case Kind::kBool:
      return ValueType::kBool;
    case Kind::kInt8:
    case Kind::kInt16:
    case Kind::kInt32:
    case Kind::kInt64:
    case Kind::kUInt8:
    case Kind::kUInt16:
    case Kind::kUInt32:
    case Kind::kUInt64:
      return ValueType::kInt;
    case Kind::kFloat16:
    case Kind::kFloat32:
    case Kind::kFloat64:
      return ValueType::kDouble;
    case Kind::kString:
      return ValueType::kString;
    case Kind::kDate:
      return ValueType::kDate;
    case Kind::kTimestamp:
      return field.type.unit == TimeUnit::kNano ? ValueType::kTimestampNs : ValueType::kTimestampUs;
    default:
      return Status::Invalid("the filter compares " + text + ", a " + field.type.ToString() +
                             "; only 'is null' works on that type");
  }
}

bool IsTime(ValueType type) {
  return type == ValueType::kDate || type == ValueType::kTimestampUs || type == ValueType::kTimestampNs;
}
bool IsNumber(ValueType type) { return type == ValueType::kInt || type == ValueType::kDouble; }

Result<Value> ParseTime(const std::string& text, ValueType type) {
  HEADRACE_ASSIGN(const int64_t micros, ParseMicros(text));
  if (type == ValueType::kTimestampUs) return Value(micros);
  if (type == ValueType::kTimestampNs) {
    if (micros > INT64_MAX / 1000 || micros < INT64_MIN / 1000) {
      return Status::Invalid("'" + text + "' is outside the range of nanosecond timestamps (1677 to 2262)");
    }
    return Value(micros * 1000);
  }
  const int64_t day = 86'400'000'000;
  return Value((micros >= 0 ? micros : micros - day + 1) / day);
}

ExprPtr WithType(const Expr& source, ValueType type) {
  auto copy = std::make_shared<Expr>(source);
  copy->type = type;
  return copy;
}

ExprPtr MakeCast(ExprPtr inner, ValueType type) {
  auto cast = std::make_shared<Expr>();
  cast->op = ExprOp::kCast;
  cast->args = {std::move(inner)};
  cast->type = type;
  return cast;
}

// Brings a literal to `type` where that loses nothing; other expressions get a cast node.
Result<ExprPtr> Coerce(const ExprPtr& expr, ValueType type) {
  if (expr->type == type) return expr;
  if (expr->type == ValueType::kNull) return WithType(*expr, type);
  if (expr->op == ExprOp::kLiteral) {
    auto literal = std::make_shared<Expr>(*expr);
    literal->type = type;
    if (expr->type == ValueType::kString && IsTime(type)) {
      HEADRACE_ASSIGN(literal->literal, ParseTime(std::get<std::string>(expr->literal), type));
      return ExprPtr(literal);
    }
    if (expr->type == ValueType::kInt && type == ValueType::kDouble) {
      literal->literal = static_cast<double>(std::get<int64_t>(expr->literal));
      return ExprPtr(literal);
    }
  }
  return MakeCast(expr, type);
}

// The type in which two sides are compared.
Result<ValueType> Common(const Expr& a, const Expr& b) {
  const ValueType x = a.type;
  const ValueType y = b.type;
  if (x == y) return x;
  if (x == ValueType::kNull) return y;
  if (y == ValueType::kNull) return x;
  if (IsNumber(x) && IsNumber(y)) return ValueType::kDouble;
  if (IsTime(x) && IsTime(y)) return std::max(x, y);
  if (x == ValueType::kString && a.op == ExprOp::kLiteral && IsTime(y)) return y;
  if (y == ValueType::kString && b.op == ExprOp::kLiteral && IsTime(x)) return x;
  return Status::Invalid("the filter compares " + ToString(a) + " (" + TypeName(x) + ") with " + ToString(b) +
                         " (" + TypeName(y) + "); cast one, as in x::float64");
}

class Binder {
 public:
  explicit Binder(const Schema& schema) : schema_(schema) {}

  Result<ExprPtr> Bind(const ExprPtr& expr) {
    auto bound = std::make_shared<Expr>(*expr);
    if (expr->op == ExprOp::kColumn) return Column(std::move(bound), false);
    if (expr->op == ExprOp::kIsNull && expr->args[0]->op == ExprOp::kColumn) {
      HEADRACE_ASSIGN(bound->args[0], Column(std::make_shared<Expr>(*expr->args[0]), true));
      bound->type = ValueType::kBool;
      return ExprPtr(bound);
    }
    for (auto& arg : bound->args) {
      HEADRACE_ASSIGN(arg, Bind(arg));
    }
    auto& args = bound->args;
    switch (expr->op) {
      case ExprOp::kLiteral:
        return expr;
      case ExprOp::kAnd:
      case ExprOp::kOr:
      case ExprOp::kNot:
        for (auto& arg : args) {
          if (arg->type != ValueType::kBool && arg->type != ValueType::kNull) {
            return Status::Invalid("the filter needs a condition, but " + ToString(*arg) + " is " +
                                   TypeName(arg->type));
          }
        }
        bound->type = ValueType::kBool;
        return ExprPtr(bound);
      case ExprOp::kEq:
      case ExprOp::kNe:
      case ExprOp::kLt:
      case ExprOp::kLe:
      case ExprOp::kGt:
      case ExprOp::kGe:
      case ExprOp::kIn:
        return Compare(std::move(bound));
      case ExprOp::kIsNull:
        bound->type = ValueType::kBool;
        return ExprPtr(bound);
      case ExprOp::kLike:
        for (auto& arg : args) {
          if (arg->type != ValueType::kString && arg->type != ValueType::kNull) {
            return Status::Invalid("LIKE works on text, and " + ToString(*arg) + " is " +
                                   TypeName(arg->type));
          }
        }
        bound->type = ValueType::kBool;
        return ExprPtr(bound);
      case ExprOp::kCast:
        return Cast(std::move(bound));
      default:
        return Arithmetic(std::move(bound));
    }
  }

 private:
  Result<ExprPtr> Column(std::shared_ptr<Expr> bound, bool any_type) {
    const Field* top = nullptr;
    HEADRACE_ASSIGN(bound->field, ResolvePath(schema_, bound->path, &top));
    const auto type = TypeOfField(bound->field, ToString(*bound));
    if (!type.ok() && !any_type) return type.status();
    bound->type = type.ok() ? *type : ValueType::kNull;
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Compare(std::shared_ptr<Expr> bound) {
    auto& args = bound->args;
    ValueType common = args[0]->type;
    for (size_t i = 1; i < args.size(); ++i) {
      Expr probe = *args[0];
      probe.type = common;
      HEADRACE_ASSIGN(common, Common(probe, *args[i]));
    }
    for (auto& arg : args) {
      HEADRACE_ASSIGN(arg, Coerce(arg, common));
    }
    bound->type = ValueType::kBool;
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Cast(std::shared_ptr<Expr> bound) {
    const ExprPtr& inner = bound->args[0];
    const ValueType from = inner->type;
    const ValueType to = bound->type;
    if (from == to || from == ValueType::kNull) return Coerce(inner, to);
    if (inner->op == ExprOp::kLiteral && from == ValueType::kString && IsTime(to)) return Coerce(inner, to);
    const bool known = (IsNumber(from) && IsNumber(to)) || (IsTime(from) && IsTime(to)) ||
                       (from == ValueType::kBool && to == ValueType::kInt) ||
                       (from == ValueType::kInt && (to == ValueType::kBool || to == ValueType::kString));
    if (!known) {
      return Status::Unsupported(std::string("filters do not cast ") + TypeName(from) + " to " +
                                 TypeName(to) + " (" + ToString(*bound) + ")");
    }
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Arithmetic(std::shared_ptr<Expr> bound) {
    auto& args = bound->args;
    ValueType type = bound->op == ExprOp::kDiv ? ValueType::kDouble : ValueType::kInt;
    for (const auto& arg : args) {
      if (!IsNumber(arg->type) && arg->type != ValueType::kNull) {
        return Status::Invalid("the filter calculates with " + ToString(*arg) + ", which is " +
                               TypeName(arg->type));
      }
      if (arg->type == ValueType::kDouble) type = ValueType::kDouble;
    }
    for (auto& arg : args) {
      HEADRACE_ASSIGN(arg, Coerce(arg, type));
    }
    bound->type = type;
    return ExprPtr(bound);
  }

  const Schema& schema_;
};

}  // namespace

Result<Field> ResolvePath(const Schema& schema, const std::vector<std::string>& path, const Field** top) {
  if (path.size() == 1 && path[0] == kRowIdColumn) {
    Field row_id;
    row_id.id = 0;
    row_id.name = std::string(kRowIdColumn);
    row_id.type.kind = Kind::kInt64;
    *top = nullptr;
    return row_id;
  }
  HEADRACE_ASSIGN(const Field* field, schema.Get(path[0]));
  *top = field;
  for (size_t i = 1; i < path.size(); ++i) {
    const Field* inner = nullptr;
    const bool is_struct = field->type.kind == Kind::kStruct || field->type.kind == Kind::kBlob;
    for (const auto& child : field->type.children) {
      if (is_struct && child.name == path[i]) inner = &child;
    }
    if (inner == nullptr) {
      std::string text = "column '" + field->name + "' has no field '" + path[i] + "'";
      if (is_struct) {
        text += "; it has ";
        for (size_t c = 0; c < field->type.children.size(); ++c)
          text += (c ? ", " : "") + field->type.children[c].name;
      }
      return Status::NotFound(text);
    }
    field = inner;
  }
  return *field;
}

Result<ExprPtr> BindExpr(const ExprPtr& expr, const Schema& schema) { return Binder(schema).Bind(expr); }

Result<ExprPtr> BindFilter(const ExprPtr& expr, const Schema& schema) {
  HEADRACE_ASSIGN(ExprPtr bound, BindExpr(expr, schema));
  if (bound->type != ValueType::kBool && bound->type != ValueType::kNull) {
    return Status::Invalid("a filter is a condition, but " + ToString(*expr) + " is " +
                           TypeName(bound->type));
  }
  return bound;
}

}  // namespace headrace::table
