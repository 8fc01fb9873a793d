#include "table/key_table.h"

#include <arrow/array.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "base/hash.h"

namespace headrace::table {
namespace {

int64_t FixedWidth(const arrow::DataType& type) {
  return static_cast<const arrow::FixedWidthType&>(type).bit_width() / 8;
}

bool IsText(const arrow::DataType& type) {
  return type.id() == arrow::Type::STRING || type.id() == arrow::Type::BINARY;
}

template <typename Float>
void AppendFloat(Float value, std::string* out) {
  if (value == 0) value = 0;  // -0.0
  if (std::isnan(value)) value = std::numeric_limits<Float>::quiet_NaN();
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

void AppendValue(const arrow::Array& column, int64_t row, bool sized, std::string* out) {
  switch (column.type_id()) {
    case arrow::Type::STRING:
    case arrow::Type::BINARY: {
      const std::string_view value = static_cast<const arrow::BinaryArray&>(column).GetView(row);
      const auto bytes = static_cast<uint32_t>(value.size());
      if (sized) out->append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
      out->append(value);
      return;
    }
    case arrow::Type::BOOL:
      out->push_back(static_cast<const arrow::BooleanArray&>(column).Value(row) ? 1 : 0);
      return;
    case arrow::Type::FLOAT:
      return AppendFloat(static_cast<const arrow::FloatArray&>(column).Value(row), out);
    case arrow::Type::DOUBLE:
      return AppendFloat(static_cast<const arrow::DoubleArray&>(column).Value(row), out);
    default: {
      const int64_t width = FixedWidth(*column.type());
      const uint8_t* values = column.data()->buffers[1]->data() + (column.offset() + row) * width;
      out->append(reinterpret_cast<const char*>(values), static_cast<size_t>(width));
    }
  }
}

}  // namespace

Result<KeyColumns> KeyColumns::Of(const arrow::ArrayVector& columns) {
  KeyColumns keys;
  for (const auto& column : columns) {
    const arrow::DataType& type = *column->type();
    const bool plain = arrow::is_fixed_width(type.id()) && !arrow::is_nested(type.id()) &&
                       type.id() != arrow::Type::DICTIONARY && type.id() != arrow::Type::HALF_FLOAT;
    if (!IsText(type) && !plain)
      return Status::Unsupported("a column of type " + type.ToString() + " is no key");
    keys.rows_ = column->length();
  }
  keys.columns_ = columns;
  return keys;
}

bool KeyColumns::KeyOf(int64_t row, std::string* buffer, std::string_view* key) const {
  for (const auto& column : columns_) {
    if (column->IsNull(row)) return false;
  }
  if (columns_.size() == 1 && IsText(*columns_[0]->type())) {  // no copy
    *key = static_cast<const arrow::BinaryArray&>(*columns_[0]).GetView(row);
    return true;
  }
  buffer->clear();
  for (const auto& column : columns_) AppendValue(*column, row, columns_.size() > 1, buffer);
  *key = *buffer;
  return true;
}

std::string_view KeyTable::KeyAt(uint32_t row) const {
  const uint64_t begin = row == 0 ? 0 : ends_[row - 1];
  return std::string_view(bytes_).substr(begin, ends_[row] - begin);
}

Result<KeyTable> KeyTable::Build(const KeyColumns& keys, const std::vector<std::string>& names) {
  std::string named;
  for (const auto& name : names) named += (named.empty() ? "'" : ", '") + name + "'";
  if (keys.rows() >= int64_t{UINT32_MAX} / 4) {
    return Status::Limit("more than a billion rows in one merge; merge them in parts");
  }
  KeyTable table;
  table.slots_.resize(std::bit_ceil(static_cast<size_t>(std::max<int64_t>(keys.rows(), 8)) * 2));
  std::string buffer;
  std::string_view key;
  for (int64_t row = 0; row < keys.rows(); ++row) {
    if (!keys.KeyOf(row, &buffer, &key)) {
      return Status::Invalid("row " + std::to_string(row) + " of the source has no value of its key, " +
                             named);
    }
    table.bytes_ += key;
    table.ends_.push_back(table.bytes_.size());
    const uint64_t hash = Xxh3(key);
    const size_t mask = table.slots_.size() - 1;
    size_t at = hash & mask;
    for (; table.slots_[at].row != UINT32_MAX; at = (at + 1) & mask) {
      if (table.slots_[at].tag != static_cast<uint32_t>(hash >> 32)) continue;
      const uint32_t other = table.slots_[at].row;
      if (table.KeyAt(other) != key) continue;
      return Status::AlreadyExists("rows " + std::to_string(other) + " and " + std::to_string(row) +
                                   " of the source have the same key, " + named + "; leave one of them out");
    }
    table.slots_[at] = {static_cast<uint32_t>(row), static_cast<uint32_t>(hash >> 32)};
  }
  return table;
}

int64_t KeyTable::Find(std::string_view key) const {
  const uint64_t hash = Xxh3(key);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].row != UINT32_MAX; at = (at + 1) & mask) {
    if (slots_[at].tag == static_cast<uint32_t>(hash >> 32) && KeyAt(slots_[at].row) == key)
      return slots_[at].row;
  }
  return -1;
}

}  // namespace headrace::table
