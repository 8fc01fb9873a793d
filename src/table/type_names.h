// Names of kinds and units: internal to type.cc and type_text.cc.
#pragma once

#include "table/type.h"

namespace headrace::table {

struct KindInfo {
  Kind kind;
  const char* name;
  int bytes;
};
inline constexpr KindInfo kKinds[] = {
    {Kind::kBool, "bool", 0},
    {Kind::kInt8, "int8", 1},
    {Kind::kInt16, "int16", 2},
    {Kind::kInt32, "int32", 4},
    {Kind::kInt64, "int64", 8},
    {Kind::kUInt8, "uint8", 1},
    {Kind::kUInt16, "uint16", 2},
    {Kind::kUInt32, "uint32", 4},
    {Kind::kUInt64, "uint64", 8},
    {Kind::kFloat16, "float16", 2},
    {Kind::kFloat32, "float32", 4},
    {Kind::kFloat64, "float64", 8},
    {Kind::kBFloat16, "bfloat16", 2},
    {Kind::kString, "string", 0},
    {Kind::kBinary, "binary", 0},
    {Kind::kDate, "date", 4},
    {Kind::kTimestamp, "timestamp", 8},
    {Kind::kTime, "time", 8},
    {Kind::kDuration, "duration", 8},
    {Kind::kDecimal, "decimal", 0},
    {Kind::kFixedBinary, "fixed_binary", 0},
    {Kind::kUuid, "uuid", 16},
    {Kind::kJson, "json", 0},
    {Kind::kList, "list", 0},
    {Kind::kStruct, "struct", 0},
    {Kind::kMap, "map", 0},
    {Kind::kTensor, "tensor", 0},
    {Kind::kBlob, "blob", 0},
};
inline constexpr const char* kUnits[] = {"s", "ms", "us", "ns"};

inline bool IsTensorElement(Kind kind) {
  return kind == Kind::kFloat32 || kind == Kind::kFloat16 || kind == Kind::kBFloat16 || kind == Kind::kInt8 ||
         kind == Kind::kUInt8;
}

}  // namespace headrace::table
