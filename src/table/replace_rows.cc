#include "table/replace_rows.h"

#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/buffer.h>
#include <arrow/compute/api.h>
#include <arrow/compute/initialize.h>
#include <arrow/type_traits.h>
#include <arrow/util/bit_util.h>

#include <cstring>
#include <numeric>

#include "table/arrow_bridge.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;

// Bytes of one value where they lie one after the other in the second buffer; 0 otherwise.
int64_t FixedBytes(const arrow::DataType& type) {
  const bool other = type.id() == arrow::Type::BOOL || type.id() == arrow::Type::DICTIONARY ||
                     type.id() == arrow::Type::EXTENSION || arrow::is_nested(type.id());
  if (other || !arrow::is_fixed_width(type.id())) return 0;
  return static_cast<const arrow::FixedWidthType&>(type).bit_width() / 8;
}

// Copies the values' bytes once, and writes the new ones over them.
Result<ArrayPtr> ReplaceFixed(const arrow::Array& base, const std::vector<int64_t>& places,
                              const arrow::Array& values, int64_t width) {
  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> data, arrow::AllocateBuffer(base.length() * width));
  const uint8_t* from = base.data()->buffers[1]->data() + base.offset() * width;
  const uint8_t* fresh = values.data()->buffers[1]->data() + values.offset() * width;
  uint8_t* to = data->mutable_data();
  std::copy_n(from, base.length() * width, to);
  for (size_t i = 0; i < places.size(); ++i) {
    std::copy_n(fresh + static_cast<int64_t>(i) * width, width, to + places[i] * width);
  }
  std::shared_ptr<arrow::Buffer> valid;
  if (base.null_count() > 0 || values.null_count() > 0) {
    HEADRACE_ARROW_ASSIGN(valid, arrow::AllocateBitmap(base.length()));
    for (int64_t i = 0; i < base.length(); ++i) {
      arrow::bit_util::SetBitTo(valid->mutable_data(), i, base.IsValid(i));
    }
    for (size_t i = 0; i < places.size(); ++i) {
      arrow::bit_util::SetBitTo(valid->mutable_data(), places[i], values.IsValid(static_cast<int64_t>(i)));
    }
  }
  return arrow::MakeArray(arrow::ArrayData::Make(base.type(), base.length(), {valid, data}));
}

struct Run {
  int64_t first = 0;
  int64_t count = 0;
};
using Runs = std::vector<Run>;  // of values to keep, ascending

Result<ArrayPtr> KeepFixed(const arrow::Array& base, const Runs& runs, int64_t length, int64_t width) {
  HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> data, arrow::AllocateBuffer(length * width));
  const uint8_t* from = base.data()->buffers[1]->data() + base.offset() * width;
  uint8_t* to = data->mutable_data();
  std::shared_ptr<arrow::Buffer> valid;
  if (base.null_count() > 0) {
    HEADRACE_ARROW_ASSIGN(valid, arrow::AllocateBitmap(length));
  }
  int64_t at = 0;
  for (const Run& run : runs) {
    std::memcpy(to + at * width, from + run.first * width, static_cast<size_t>(run.count * width));
    for (int64_t i = 0; valid && i < run.count; ++i) {
      arrow::bit_util::SetBitTo(valid->mutable_data(), at + i, base.IsValid(run.first + i));
    }
    at += run.count;
  }
  return arrow::MakeArray(arrow::ArrayData::Make(base.type(), length, {valid, data}));
}

// Moves the values together in their own buffer, which nobody else holds: the memory is in the cache already.
ArrayPtr KeepInPlace(const arrow::ArrayData& base, const Runs& runs, int64_t length, int64_t width) {
  uint8_t* values = base.buffers[1]->mutable_data() + base.offset * width;
  int64_t at = 0;
  for (const Run& run : runs) {
    if (at != run.first) {
      std::memmove(values + at * width, values + run.first * width, static_cast<size_t>(run.count * width));
    }
    at += run.count;
  }
  return arrow::MakeArray(
      arrow::ArrayData::Make(base.type, length, {nullptr, base.buffers[1]}, 0, base.offset));
}

bool IsAlone(const ArrayPtr& array) {
  const auto& buffer = array->data()->buffers[1];
  return array.use_count() == 1 && array->data().use_count() == 1 && buffer.use_count() == 1 &&
         buffer->is_mutable() && buffer->parent() == nullptr && array->null_count() == 0;
}

// Whether each run begins after the last one's end: no value is wanted twice.
bool Ascend(const Runs& runs) {
  for (size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].first < runs[i - 1].first + runs[i - 1].count) return false;
  }
  return true;
}

Result<ArrayPtr> Keep(ArrayPtr base, const Runs& runs) {
  int64_t length = 0;
  for (const Run& run : runs) length += run.count;
  const int64_t width = FixedBytes(*base->type());
  if (width > 0 && IsAlone(base) && Ascend(runs)) return KeepInPlace(*base->data(), runs, length, width);
  if (width > 0) return KeepFixed(*base, runs, length, width);
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  std::vector<int64_t> from;
  from.reserve(static_cast<size_t>(length));
  for (const Run& run : runs) {
    for (int64_t i = 0; i < run.count; ++i) from.push_back(run.first + i);
  }
  const arrow::Int64Array picks(length, arrow::Buffer::FromVector(std::move(from)));
  ArrayPtr kept;
  HEADRACE_ARROW_ASSIGN(kept, arrow::compute::Take(*base, picks));
  return kept;
}

}  // namespace

Result<ArrayPtr> Picked(ArrayPtr base, const Rows& rows) {
  if (rows.is_range()) return base;
  Runs runs;
  for (int64_t i = 0; i < rows.count(); ++i) {
    const int64_t row = rows.at(i) - rows.begin();
    if (!runs.empty() && runs.back().first + runs.back().count == row) {
      ++runs.back().count;
    } else {
      runs.push_back({row, 1});
    }
  }
  return Keep(std::move(base), runs);
}

Result<ArrayPtr> Without(ArrayPtr base, const std::vector<int64_t>& gaps) {
  if (gaps.empty()) return base;
  Runs runs;
  int64_t next = 0;
  for (const int64_t gap : gaps) {
    if (gap > next) runs.push_back({next, gap - next});
    next = gap + 1;
  }
  if (next < base->length()) runs.push_back({next, base->length() - next});
  return Keep(std::move(base), runs);
}

Result<ArrayPtr> Replaced(ArrayPtr base, const std::vector<int64_t>& places, const ArrayPtr& values) {
  const int64_t width = FixedBytes(*base->type());
  if (width > 0) return ReplaceFixed(*base, places, *values, width);
  static const arrow::Status compute_ready = arrow::compute::Initialize();
  HEADRACE_ARROW_TRY(compute_ready);
  std::vector<int64_t> from(static_cast<size_t>(base->length()));
  std::iota(from.begin(), from.end(), int64_t{0});
  for (size_t i = 0; i < places.size(); ++i) {
    from[static_cast<size_t>(places[i])] = base->length() + static_cast<int64_t>(i);
  }
  HEADRACE_ARROW_ASSIGN(const auto both, arrow::Concatenate({base, WithType(values, base->type())}));
  const auto length = static_cast<int64_t>(from.size());
  const arrow::Int64Array picks(length, arrow::Buffer::FromVector(std::move(from)));
  ArrayPtr replaced;
  HEADRACE_ARROW_ASSIGN(replaced, arrow::compute::Take(*both, picks));
  return replaced;
}

}  // namespace headrace::table
