#include <algorithm>

#include "base/clock.h"
#include "base/ids.h"
#include "table/expr_vec.h"
#include "table/json_text.h"
#include "table/row_ids.h"

namespace headrace::table {
namespace {

const char* TypeName(ValueType type) {
  static constexpr const char* kNames[] = {"null",    "bool", "integer", "decimal",   "float32",
                                           "float64", "text", "date",    "timestamp", "timestamp[ns]"};
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
      return ValueType::kInt;
    case Kind::kUInt64:
      return ValueType::kDecimal;
    case Kind::kFloat16:
    case Kind::kFloat32:
      return ValueType::kFloat;
    case Kind::kFloat64:
      return ValueType::kDouble;
    case Kind::kDecimal:
      if (field.type.precision <= kMaxDecimalDigits) return ValueType::kDecimal;
      return Status::Invalid("the filter compares " + text + ", a " + field.type.ToString() +
                             "; filters take " + std::to_string(kMaxDecimalDigits) + " digits at most");
    case Kind::kString:
    case Kind::kJson:
    case Kind::kUuid:
      return ValueType::kString;
    case Kind::kDate:
      return ValueType::kDate;
    case Kind::kTimestamp:
      return field.type.unit == TimeUnit::kNano ? ValueType::kTimestampNs : ValueType::kTimestampUs;
    case Kind::kBlob:
      return Status::Invalid("the filter compares " + text + ", a blob; compare its facts (" + text +
                             ".width, " + text + ".checksum, which stands for its bytes), or ask 'is null'");
    default:
      return Status::Invalid("the filter compares " + text + ", a " + field.type.ToString() +
                             "; only 'is null' works on that type (SQL has more)");
  }
}

bool IsTime(ValueType type) {
  return type == ValueType::kDate || type == ValueType::kTimestampUs || type == ValueType::kTimestampNs;
}
bool IsNumber(ValueType type) { return type >= ValueType::kInt && type <= ValueType::kDouble; }

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

// A type and, of decimals, their scale.
struct Target {
  ValueType type = ValueType::kNull;
  int scale = 0;
};

Target TargetOf(const Expr& expr) { return {expr.type, expr.decimal.scale}; }

Result<Value> NumberAs(const Expr& literal, ValueType type) {
  if (literal.type == ValueType::kInt) {
    const int64_t value = std::get<int64_t>(literal.literal);
    return type == ValueType::kFloat ? Value(double{static_cast<float>(value)})
                                     : Value(static_cast<double>(value));
  }
  if (literal.type == ValueType::kDecimal)
    return type == ValueType::kFloat ? Value(double{ToFloat(literal.decimal)})
                                     : Value(ToDouble(literal.decimal));
  return literal.literal;
}

// Brings a literal to `target` where that is settled; other expressions get a cast node.
Result<ExprPtr> Coerce(const ExprPtr& expr, Target target) {
  const ValueType type = target.type;
  const bool decimal = type == ValueType::kDecimal;
  if (expr->type == type && (!decimal || expr->decimal.scale == target.scale)) return expr;
  auto made = std::make_shared<Expr>(*expr);
  made->type = type;
  if (expr->type == ValueType::kNull) {
    made->decimal.scale = target.scale;
    return ExprPtr(made);
  }
  if (expr->op == ExprOp::kLiteral) {
    if (expr->type == ValueType::kString && IsTime(type)) {
      HEADRACE_ASSIGN(made->literal, ParseTime(std::get<std::string>(expr->literal), type));
      return ExprPtr(made);
    }
    const bool whole = expr->type == ValueType::kInt;
    if (decimal && (whole || expr->type == ValueType::kDecimal)) {
      const Decimal given = whole ? Decimal{std::get<int64_t>(expr->literal), 0} : expr->decimal;
      made->decimal.scale = target.scale;
      if (Rescale(given, target.scale, &made->decimal.unscaled)) return ExprPtr(made);
    }
    const bool to_real =
        type == ValueType::kDouble || (type == ValueType::kFloat && expr->type != ValueType::kDouble);
    if (IsNumber(expr->type) && to_real) {
      HEADRACE_ASSIGN(made->literal, NumberAs(*expr, type));
      return ExprPtr(made);
    }
  }
  auto cast = std::make_shared<Expr>();
  cast->op = ExprOp::kCast;
  cast->args = {expr};
  cast->type = type;
  cast->decimal.scale = target.scale;
  return ExprPtr(cast);
}

// The type in which two sides are compared: of numbers, the one further along integer, decimal, float32,
// float64.
Result<Target> Common(const Expr& a, const Expr& b) {
  const ValueType x = a.type;
  const ValueType y = b.type;
  const Target joined{std::max(x, y), std::max(a.decimal.scale, b.decimal.scale)};
  if (x == y) return joined;
  if (x == ValueType::kNull || y == ValueType::kNull) return joined;
  if (IsNumber(x) && IsNumber(y)) return joined;
  if (IsTime(x) && IsTime(y)) return joined;
  if (x == ValueType::kString && a.op == ExprOp::kLiteral && IsTime(y)) return TargetOf(b);
  if (y == ValueType::kString && b.op == ExprOp::kLiteral && IsTime(x)) return TargetOf(a);
  return Status::Invalid("the filter compares " + ToString(a) + " (" + TypeName(x) + ") with " + ToString(b) +
                         " (" + TypeName(y) + "); cast one, as in x::float64");
}

ExprPtr MakeCompare(ExprOp op, ExprPtr left, ExprPtr right) {
  auto made = std::make_shared<Expr>();
  made->op = op;
  made->args = {std::move(left), std::move(right)};
  made->type = ValueType::kBool;
  return made;
}

ExprOp Mirrored(ExprOp op) {
  switch (op) {
    case ExprOp::kLt:
      return ExprOp::kGt;
    case ExprOp::kLe:
      return ExprOp::kGe;
    case ExprOp::kGt:
      return ExprOp::kLt;
    case ExprOp::kGe:
      return ExprOp::kLe;
    default:
      return op;
  }
}

// `whole op bound` for an integer and a decimal, as a comparison of integers, so that statistics apply: x
// < 2.5 is x <= 2. Where no integer can pass it is x != x, which is null for nulls, as it must be.
ExprPtr WholeCompare(ExprOp op, const ExprPtr& whole, const Decimal& bound) {
  bool exact = false;
  const Int128 floor = FloorOf(bound, &exact);
  const bool above = floor > INT64_MAX;  // the bound, of every integer
  const bool below = floor < INT64_MIN;
  if (above || below || (!exact && (op == ExprOp::kEq || op == ExprOp::kNe))) {
    const bool less = op == ExprOp::kLt || op == ExprOp::kLe;
    const bool greater = op == ExprOp::kGt || op == ExprOp::kGe;
    const bool always = op == ExprOp::kNe || (above && less) || (below && greater);
    return MakeCompare(always ? ExprOp::kEq : ExprOp::kNe, whole, whole);
  }
  if (!exact) op = op == ExprOp::kLt ? ExprOp::kLe : op == ExprOp::kGe ? ExprOp::kGt : op;
  auto literal = std::make_shared<Expr>();
  literal->literal = static_cast<int64_t>(floor);
  literal->type = ValueType::kInt;
  return MakeCompare(op, whole, literal);
}

bool IsDecimalLiteral(const Expr& expr) {
  return expr.op == ExprOp::kLiteral && expr.type == ValueType::kDecimal && !IsNull(expr.literal);
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
    if (IsBetween(*expr)) return Between(*expr, std::move(bound));
    for (auto& arg : bound->args) {
      HEADRACE_ASSIGN(arg, Bind(arg));
    }
    switch (expr->op) {
      case ExprOp::kLiteral:
        return expr;
      case ExprOp::kAnd:
      case ExprOp::kOr:
      case ExprOp::kNot:
        for (auto& arg : bound->args) HEADRACE_TRY(IsCondition(*arg));
        bound->type = ValueType::kBool;
        return ExprPtr(bound);
      case ExprOp::kEq:
      case ExprOp::kNe:
      case ExprOp::kLt:
      case ExprOp::kLe:
      case ExprOp::kGt:
      case ExprOp::kGe:
      case ExprOp::kDistinct:
      case ExprOp::kIn:
        return Compare(std::move(bound));
      case ExprOp::kIsNull:
        bound->type = ValueType::kBool;
        return ExprPtr(bound);
      case ExprOp::kCoalesce:
      case ExprOp::kCase:
        return Choice(std::move(bound));
      case ExprOp::kCast:
        return Cast(std::move(bound));
      case ExprOp::kJsonText:
        return JsonText(std::move(bound));
      case ExprOp::kHashSplit:
      case ExprOp::kHashFraction:
        return BindHash(std::move(bound));
      case ExprOp::kLike:
      case ExprOp::kILike:
        return OfText(std::move(bound), "LIKE", ValueType::kBool);
      case ExprOp::kLength:
        return OfText(std::move(bound), "length()", ValueType::kInt);
      case ExprOp::kLower:
        return OfText(std::move(bound), "lower()", ValueType::kString);
      case ExprOp::kUpper:
        return OfText(std::move(bound), "upper()", ValueType::kString);
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
    if (bound->type == ValueType::kDecimal) bound->decimal.scale = bound->field.type.scale;
    return ExprPtr(bound);
  }

  static Result<ExprPtr> JsonText(std::shared_ptr<Expr> bound) {
    const Expr& json = *bound->args[0];
    if (json.op != ExprOp::kColumn || json.field.type.kind != Kind::kJson)
      return Status::Invalid("->> looks into a json column, and " + ToString(json) + " is none");
    HEADRACE_TRY(ParseJsonPath(std::get<std::string>(bound->literal)).status());
    bound->type = ValueType::kString;
    return ExprPtr(bound);
  }

  // Texts beside a column of UUIDs are UUIDs, however they are written.
  static Status ReadUuids(std::vector<ExprPtr>* args) {
    const bool any = std::any_of(args->begin(), args->end(), [](const ExprPtr& arg) {
      return arg->op == ExprOp::kColumn && arg->field.type.kind == Kind::kUuid;
    });
    for (auto& arg : *args) {
      const auto* text = std::get_if<std::string>(&arg->literal);
      if (!any || arg->op != ExprOp::kLiteral || text == nullptr) continue;
      const auto uuid = Uuid::ParseWritten(*text);
      if (!uuid) return Status::Invalid("'" + *text + "' is not a UUID");
      auto literal = std::make_shared<Expr>(*arg);
      literal->literal = uuid->Hyphenated();
      arg = std::move(literal);
    }
    return Status::Ok();
  }

  static Status IsCondition(const Expr& expr) {
    if (expr.type == ValueType::kBool || expr.type == ValueType::kNull) return Status::Ok();
    return Status::Invalid("the filter needs a condition, but " + ToString(expr) + " is " +
                           TypeName(expr.type));
  }

  static Result<ExprPtr> OfText(std::shared_ptr<Expr> bound, const char* what, ValueType gives) {
    for (const auto& arg : bound->args) {
      if (arg->type == ValueType::kString || arg->type == ValueType::kNull) continue;
      return Status::Invalid(std::string(what) + " works on text, and " + ToString(*arg) + " is " +
                             TypeName(arg->type));
    }
    bound->type = gives;
    return ExprPtr(bound);
  }

  // The common type of the arguments from `first` on, each `step`th and the last, which are brought to it.
  static Result<Target> Unify(Expr* bound, size_t first, size_t step) {
    auto& args = bound->args;
    Expr probe = *args.back();
    for (size_t i = first; i < args.size(); i += step) {
      HEADRACE_ASSIGN(const Target common, Common(probe, *args[i]));
      if (probe.type == ValueType::kNull || probe.op == ExprOp::kLiteral) {
        probe.op = args[i]->op;
        probe.path = args[i]->path;
        probe.args = args[i]->args;
        probe.literal = args[i]->literal;
      }
      probe.type = common.type;
      probe.decimal.scale = common.scale;
    }
    const Target target = TargetOf(probe);
    for (size_t i = first; i < args.size(); i += step) {
      HEADRACE_ASSIGN(args[i], Coerce(args[i], target));
    }
    HEADRACE_ASSIGN(args.back(), Coerce(args.back(), target));
    return target;
  }

  Result<ExprPtr> Between(const Expr& expr, std::shared_ptr<Expr> bound) {
    Expr all;
    for (const auto& arg : {expr.args[0]->args[0], expr.args[0]->args[1], expr.args[1]->args[1]}) {
      HEADRACE_ASSIGN(ExprPtr operand, Bind(arg));
      all.args.push_back(std::move(operand));
    }
    // Integers between literals stay integers, which statistics know.
    const auto whole = [](const Expr& side) {
      return side.type == ValueType::kInt || IsDecimalLiteral(side);
    };
    if (all.args[0]->type != ValueType::kInt || !whole(*all.args[1]) || !whole(*all.args[2])) {
      HEADRACE_ASSIGN(const Target target, Unify(&all, 0, 1));
      (void)target;
    }
    for (size_t side = 0; side < 2; ++side) {
      const ExprPtr compare =
          MakeCompare(side == 0 ? ExprOp::kGe : ExprOp::kLe, all.args[0], all.args[side + 1]);
      HEADRACE_ASSIGN(bound->args[side], Compare(std::make_shared<Expr>(*compare)));
    }
    bound->type = ValueType::kBool;
    return ExprPtr(bound);
  }

  // COALESCE and CASE.
  static Result<ExprPtr> Choice(std::shared_ptr<Expr> bound) {
    const bool is_case = bound->op == ExprOp::kCase;
    for (size_t i = 0; is_case && i + 1 < bound->args.size(); i += 2)
      HEADRACE_TRY(IsCondition(*bound->args[i]));
    HEADRACE_ASSIGN(const Target target, Unify(bound.get(), is_case ? 1 : 0, is_case ? 2 : 1));
    bound->type = target.type;
    bound->decimal.scale = target.scale;
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Compare(std::shared_ptr<Expr> bound) {
    auto& args = bound->args;
    bound->type = ValueType::kBool;
    HEADRACE_TRY(ReadUuids(&args));
    if (args.size() == 2 && bound->op != ExprOp::kIn && bound->op != ExprOp::kDistinct) {
      if (args[0]->type == ValueType::kInt && IsDecimalLiteral(*args[1]))
        return WholeCompare(bound->op, args[0], args[1]->decimal);
      if (args[1]->type == ValueType::kInt && IsDecimalLiteral(*args[0]))
        return WholeCompare(Mirrored(bound->op), args[1], args[0]->decimal);
    }
    HEADRACE_ASSIGN(const Target target, Unify(bound.get(), 0, 1));
    (void)target;
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Cast(std::shared_ptr<Expr> bound) {
    const ExprPtr& inner = bound->args[0];
    const ValueType from = inner->type;
    const ValueType to = bound->type;
    if (from == to || from == ValueType::kNull) return Coerce(inner, {to, inner->decimal.scale});
    if (inner->op == ExprOp::kLiteral && from == ValueType::kString && IsTime(to))
      return Coerce(inner, {to, 0});
    const bool whole = from == ValueType::kInt || from == ValueType::kDecimal;
    const bool known = (IsNumber(from) && IsNumber(to)) || (IsTime(from) && IsTime(to)) ||
                       from == ValueType::kString || (from == ValueType::kBool && to == ValueType::kInt) ||
                       (from == ValueType::kBool && to == ValueType::kString) ||
                       (from == ValueType::kInt && to == ValueType::kBool) ||
                       (whole && to == ValueType::kString);
    if (!known) {
      return Status::Unsupported(std::string("filters do not cast ") + TypeName(from) + " to " +
                                 TypeName(to) + " (" + ToString(*bound) + ")");
    }
    return ExprPtr(bound);
  }

  static Result<ExprPtr> Arithmetic(std::shared_ptr<Expr> bound) {
    auto& args = bound->args;
    Target target{ValueType::kInt, 0};
    int scales = 0;
    for (const auto& arg : args) {
      if (!IsNumber(arg->type) && arg->type != ValueType::kNull) {
        return Status::Invalid("the filter calculates with " + ToString(*arg) + ", which is " +
                               TypeName(arg->type));
      }
      target.type = std::max(target.type, arg->type);
      if (arg->type != ValueType::kDecimal) continue;
      target.scale = std::max(target.scale, arg->decimal.scale);
      scales += arg->decimal.scale;
    }
    if (bound->op == ExprOp::kDiv && target.type != ValueType::kFloat) target.type = ValueType::kDouble;
    if (bound->op == ExprOp::kIsNan) target.type = ValueType::kDouble;
    // The scales of factors add up, so that a product is exact too.
    const bool product = bound->op == ExprOp::kMul && target.type == ValueType::kDecimal;
    for (auto& arg : args) {
      if (product && arg->type == ValueType::kDecimal) continue;
      HEADRACE_ASSIGN(arg, Coerce(arg, {target.type, product ? 0 : target.scale}));
    }
    if (product && scales > kMaxDecimalDigits) {
      return Status::Limit("the product " + ToString(*bound) +
                           " has more than 38 digits; cast a side to float64");
    }
    bound->type = bound->op == ExprOp::kIsNan ? ValueType::kBool : target.type;
    bound->decimal.scale = product ? scales : target.scale;
    return ExprPtr(bound);
  }

  const Schema& schema_;
};

}  // namespace

Result<Field> ResolvePath(const Schema& schema, const std::vector<std::string>& path, const Field** top) {
  if (path.size() == 1 &&
      (path[0] == kRowIdColumn || (path[0] == kRowPlaceColumn && !schema.Find(path[0])))) {
    *top = nullptr;
    return path[0] == kRowIdColumn ? RowIdField() : RowPlaceField();
  }
  HEADRACE_ASSIGN(const Field* field, schema.Get(path[0]));
  *top = field;
  for (size_t i = 1; i < path.size(); ++i) {
    const Field* inner = nullptr;
    const bool is_struct = field->type.kind == Kind::kStruct || field->type.kind == Kind::kBlob;
    for (const auto& child : field->type.children) {
      if (is_struct && child.name == path[i]) inner = &child;
    }
    if (inner == nullptr && field->type.kind == Kind::kJson) {
      return Status::NotFound("column '" + field->name + "' is json, which has no columns inside: write " +
                              field->name + "->>'$." + path[i] + "'");
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
