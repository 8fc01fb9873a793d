// The types that a table's columns may have (type_arrow.h: how Arrow's map onto them).
//
// Text forms (used by the format, errors, `headrace describe`): bool, int8 … uint64, float16, float32,
// float64, string, binary, date, timestamp[us], timestamp[us, UTC], time[us], duration[us], decimal(18, 2),
// fixed_binary[20], uuid, json, list<T>, struct<a: T, b: T>, map<K, V>, tensor<float32>[384],
// tensor<uint8>[3, 224, 224], blob.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace headrace::table {

enum class Kind {
  kBool,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kBFloat16,  // only as a tensor's element
  kString,
  kBinary,
  kDate,         // days since 1970-01-01
  kTimestamp,    // since 1970-01-01T00:00:00 in `unit`; an instant if `zone` is set, else a wall-clock time
  kTime,         // of day, in `unit`
  kDuration,     // in `unit`
  kDecimal,      // exact: `precision` digits, `scale` of them after the point
  kFixedBinary,  // `width` bytes
  kUuid,         // 16 bytes
  kJson,         // text that is valid JSON, kept as it was written
  kList,
  kStruct,
  kMap,     // list of (key, value); keys are not null
  kTensor,  // fixed shape, row-major, element without nulls
  kBlob,    // bytes of any size in packs, with the facts a reader must know (see BlobFields)
};

inline constexpr int32_t kMaxPrecision = 76;  // as Arrow's decimal256

enum class TimeUnit { kSecond, kMilli, kMicro, kNano };

struct Field;

struct Type {
  Kind kind = Kind::kInt64;
  TimeUnit unit = TimeUnit::kMicro;  // timestamps, times, durations
  std::string zone;                  // timestamps
  int32_t precision = 0;             // decimals: 1 to kMaxPrecision
  int32_t scale = 0;                 // decimals: 0 to precision
  int32_t width = 0;                 // fixed-size binary: bytes
  std::vector<Field> children;       // list: "item"; struct: its fields; map: key, value; blob: BlobFields()
  Kind element = Kind::kFloat32;     // tensors
  std::vector<int64_t> shape;        // tensors

  std::string ToString() const;
  bool Equals(const Type& other) const;  // names and ids of nested fields included
  bool is_scalar() const { return kind < Kind::kList && kind != Kind::kBFloat16; }
  int64_t tensor_elements() const;
  int64_t tensor_bytes() const;  // of one cell
};

struct Field {
  int32_t id = -1;  // never reused in a table; also Parquet's field_id
  std::string name;
  Type type;
  std::string default_value;  // what a hole reads as, in text; with has_default only, else null
  bool has_default = false;
  bool widened = false;  // files may store its values in a narrower type (retype.h)
};

// The blob struct's fields, without ids: pack, uri, offset, length, checksum, media_type, width, height,
// orientation, inline. A cell has bytes in exactly one of: a pack, a uri (in place), `inline`.
const std::vector<Field>& BlobFields();

Result<Type> ParseType(std::string_view text);
const char* KindName(Kind kind);
int KindBytes(Kind kind);  // of a fixed-width scalar, else 0

}  // namespace headrace::table
