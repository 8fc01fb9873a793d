#include "table/type.h"

#include "base/limits.h"
#include "table/type_names.h"

namespace headrace::table {

namespace {

std::vector<Field> MakeBlobFields() {
  const auto field = [](const char* name, Kind kind) {
    Field result;
    result.name = name;
    result.type.kind = kind;
    return result;
  };
  return {field("pack", Kind::kString),  field("uri", Kind::kString),      field("offset", Kind::kInt64),
          field("length", Kind::kInt64), field("checksum", Kind::kUInt64), field("media_type", Kind::kString),
          field("width", Kind::kInt32),  field("height", Kind::kInt32),    field("orientation", Kind::kInt8),
          field("inline", Kind::kBinary)};
}

}  // namespace

const std::vector<Field>& BlobFields() {
  static const std::vector<Field> fields = MakeBlobFields();
  return fields;
}

const char* KindName(Kind kind) { return kKinds[static_cast<int>(kind)].name; }
int KindBytes(Kind kind) { return kKinds[static_cast<int>(kind)].bytes; }

int64_t Type::tensor_elements() const {
  int64_t elements = 1;
  for (const int64_t extent : shape) {
    if (extent <= 0 || elements > limits::kMaxTensorElements) return -1;
    elements *= extent;
  }
  return elements;
}

int64_t Type::tensor_bytes() const { return tensor_elements() * KindBytes(element); }

bool Type::Equals(const Type& other) const {
  if (kind != other.kind || children.size() != other.children.size()) return false;
  if (kind == Kind::kTimestamp && (unit != other.unit || zone != other.zone)) return false;
  if ((kind == Kind::kTime || kind == Kind::kDuration) && unit != other.unit) return false;
  if (precision != other.precision || scale != other.scale || width != other.width) return false;
  if (kind == Kind::kTensor && (element != other.element || shape != other.shape)) return false;
  for (size_t i = 0; i < children.size(); ++i) {
    const Field& a = children[i];
    const Field& b = other.children[i];
    if (a.id != b.id || a.name != b.name || !a.type.Equals(b.type)) return false;
  }
  return true;
}

}  // namespace headrace::table
