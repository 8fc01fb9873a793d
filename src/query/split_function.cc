#include "query/split_function.h"

#include <duckdb/catalog/catalog.hpp>
#include <duckdb/common/vector_operations/vector_operations.hpp>
#include <duckdb/execution/expression_executor.hpp>
#include <duckdb/function/function_set.hpp>
#include <duckdb/parser/parsed_data/create_scalar_function_info.hpp>
#include <duckdb/planner/expression/bound_function_expression.hpp>

#include <memory>
#include <optional>
#include <string>

#include "table/split.h"

namespace headrace::query {
namespace {

using duckdb::LogicalTypeId;
using table::Int128;
using Arguments = duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>;

struct SplitData : public duckdb::FunctionData {
  std::shared_ptr<const table::Split> split;  // null: hash_fraction()
  uint64_t seed = 0;

  duckdb::unique_ptr<duckdb::FunctionData> Copy() const override {
    return duckdb::make_uniq<SplitData>(*this);
  }
  bool Equals(const duckdb::FunctionData& other) const override {
    const auto& data = other.Cast<SplitData>();
    return data.split == split && data.seed == seed;
  }
};

duckdb::Value ConstantOf(duckdb::ClientContext& context, const duckdb::Expression& argument,
                         const std::string& what) {
  if (argument.HasParameter()) throw duckdb::ParameterNotResolvedException();
  if (!argument.IsFoldable())
    throw duckdb::BinderException("%s must be the same for all rows, not %s", what, argument.ToString());
  return duckdb::ExpressionExecutor::EvaluateScalar(context, argument);
}

void CheckKey(const duckdb::Expression& key, const std::string& function) {
  switch (key.return_type.id()) {
    case LogicalTypeId::UNKNOWN:
      throw duckdb::ParameterNotResolvedException();
    case LogicalTypeId::SQLNULL:
    case LogicalTypeId::BOOLEAN:
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::USMALLINT:
    case LogicalTypeId::UINTEGER:
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::DECIMAL:
    case LogicalTypeId::VARCHAR:
    case LogicalTypeId::ENUM:
    case LogicalTypeId::UUID:
    case LogicalTypeId::DATE:
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
      return;
    default:
      throw duckdb::BinderException(
          "%s() takes a key that is text, an integer, a decimal, a date or a time, and %s is %s", function,
          key.ToString(), key.return_type.ToString());
  }
}

duckdb::unique_ptr<duckdb::FunctionData> BindSplit(duckdb::ClientContext& context,
                                                   duckdb::ScalarFunction& function, Arguments& arguments) {
  auto data = duckdb::make_uniq<SplitData>();
  CheckKey(*arguments[0], function.name);
  size_t seed = 1;
  if (function.name == "hash_split") {
    seed = 2;
    const auto parts = ConstantOf(context, *arguments[1], "the parts of hash_split()");
    if (parts.IsNull()) throw duckdb::BinderException("the parts of hash_split() are null");
    auto split = table::Split::Parse(parts.ToString());
    if (!split.ok()) throw duckdb::BinderException(split.status().message());
    data->split = std::make_shared<const table::Split>(std::move(split).value());
  }
  if (arguments.size() > seed) {
    const auto given = ConstantOf(context, *arguments[seed], "the seed of " + function.name + "()");
    const auto number = given.DefaultCastAs(duckdb::LogicalType::BIGINT);
    if (number.IsNull() || number.GetValue<int64_t>() < 0)
      throw duckdb::BinderException("the seed of %s() is a whole number from 0 on", function.name);
    data->seed = static_cast<uint64_t>(number.GetValue<int64_t>());
  }
  return data;
}

// Zeros at the end of a decimal's fraction.
std::string_view WithoutZeros(std::string_view text) {
  if (text.find('.') == std::string_view::npos) return text;
  text = text.substr(0, text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.remove_suffix(1);
  return text;
}

// Calls give(row, text) for every key, and give(row, nothing) for those that are null.
template <typename Give>
class Keys {
 public:
  Keys(duckdb::Vector* keys, duckdb::idx_t count, Give give) : keys_(keys), count_(count), give_(give) {}

  void Run() {
    switch (keys_->GetType().id()) {
      case LogicalTypeId::BOOLEAN:
        return Each<bool>([&](bool value) { return text_.OfBool(value); });
      case LogicalTypeId::TINYINT:
        return Whole<int8_t>();
      case LogicalTypeId::SMALLINT:
        return Whole<int16_t>();
      case LogicalTypeId::INTEGER:
        return Whole<int32_t>();
      case LogicalTypeId::BIGINT:
        return Whole<int64_t>();
      case LogicalTypeId::UTINYINT:
        return Whole<uint8_t>();
      case LogicalTypeId::USMALLINT:
        return Whole<uint16_t>();
      case LogicalTypeId::UINTEGER:
        return Whole<uint32_t>();
      case LogicalTypeId::UBIGINT:
        return Each<uint64_t>([&](uint64_t value) { return text_.OfDecimal({Int128{value}, 0}); });
      case LogicalTypeId::DATE:
        return Each<duckdb::date_t>([&](duckdb::date_t value) { return text_.OfDate(value.days); });
      case LogicalTypeId::TIMESTAMP_SEC:
        return Time(1'000'000'000);
      case LogicalTypeId::TIMESTAMP_MS:
        return Time(1'000'000);
      case LogicalTypeId::TIMESTAMP:
      case LogicalTypeId::TIMESTAMP_TZ:
        return Time(1'000);
      case LogicalTypeId::TIMESTAMP_NS:
        return Time(1);
      case LogicalTypeId::VARCHAR:
        return Each<duckdb::string_t>(
            [](const duckdb::string_t& value) { return std::string_view(value.GetData(), value.GetSize()); });
      default: {
        duckdb::Vector texts(duckdb::LogicalType::VARCHAR, count_);
        duckdb::VectorOperations::DefaultCast(*keys_, texts, count_);
        keys_ = &texts;
        return Each<duckdb::string_t>([](const duckdb::string_t& value) {
          return WithoutZeros(std::string_view(value.GetData(), value.GetSize()));
        });
      }
    }
  }

 private:
  template <typename T, typename Text>
  void Each(Text text) {
    duckdb::UnifiedVectorFormat format;
    keys_->ToUnifiedFormat(count_, format);
    const auto* values = duckdb::UnifiedVectorFormat::GetData<T>(format);
    for (duckdb::idx_t row = 0; row < count_; ++row) {
      const auto at = format.sel->get_index(row);
      if (format.validity.RowIsValid(at)) {
        give_(row, std::optional<std::string_view>(text(values[at])));
      } else {
        give_(row, std::nullopt);
      }
    }
  }
  template <typename T>
  void Whole() {
    Each<T>([&](T value) { return text_.OfInt(int64_t{value}); });
  }
  void Time(int64_t nanos) {
    Each<int64_t>([&](int64_t value) { return text_.OfNanos(Int128{value} * nanos); });
  }

  duckdb::Vector* keys_;
  duckdb::idx_t count_;
  Give give_;
  table::KeyTexts text_;
};

void RunSplit(duckdb::DataChunk& args, duckdb::ExpressionState& state, duckdb::Vector& result) {
  const auto& function = state.expr.Cast<duckdb::BoundFunctionExpression>();
  const auto& data = function.bind_info->Cast<SplitData>();
  const bool constant = args.AllConstant();
  const auto count = constant ? duckdb::idx_t{1} : args.size();
  result.SetVectorType(duckdb::VectorType::FLAT_VECTOR);
  const auto give = [&](duckdb::idx_t row, std::optional<std::string_view> key) {
    const uint64_t position = key ? table::SplitPosition(*key, data.seed) : 0;
    if (!data.split) {
      duckdb::FlatVector::GetData<double>(result)[row] = table::SplitFraction(position);
      if (!key) duckdb::FlatVector::SetNull(result, row, true);
      return;
    }
    const std::string* part = key ? data.split->PartAt(position) : nullptr;
    if (part == nullptr) return duckdb::FlatVector::SetNull(result, row, true);
    duckdb::FlatVector::GetData<duckdb::string_t>(result)[row] =
        duckdb::StringVector::AddString(result, part->data(), part->size());
  };
  Keys(&args.data[0], count, give).Run();
  if (constant) result.SetVectorType(duckdb::VectorType::CONSTANT_VECTOR);
}

}  // namespace

void RegisterSplit(duckdb::Connection* connection) {
  using duckdb::LogicalType;
  duckdb::ScalarFunctionSet split("hash_split");
  duckdb::ScalarFunctionSet fraction("hash_fraction");
  const LogicalType any(LogicalTypeId::ANY);
  split.AddFunction({{any, LogicalType::VARCHAR}, LogicalType::VARCHAR, RunSplit, BindSplit});
  split.AddFunction(
      {{any, LogicalType::VARCHAR, LogicalType::BIGINT}, LogicalType::VARCHAR, RunSplit, BindSplit});
  fraction.AddFunction({{any}, LogicalType::DOUBLE, RunSplit, BindSplit});
  fraction.AddFunction({{any, LogicalType::BIGINT}, LogicalType::DOUBLE, RunSplit, BindSplit});
  auto& context = *connection->context;
  context.RunFunctionInTransaction([&] {
    auto& catalog = duckdb::Catalog::GetSystemCatalog(context);
    for (const auto& set : {split, fraction}) {
      duckdb::CreateScalarFunctionInfo info(set);
      catalog.CreateFunction(context, info);
    }
  });
}

}  // namespace headrace::query
