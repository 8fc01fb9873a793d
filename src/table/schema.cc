#include "table/schema.h"

#include <arrow/type.h>
#include <arrow/util/utf8.h>

#include <map>
#include <set>
#include "base/json.h"

#include "base/limits.h"
#include "table/json_read.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

// Levenshtein distance, for "did you mean".
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replace});
    }
  }
  return row[b.size()];
}

}  // namespace

const Field* Schema::Find(std::string_view name) const {
  for (const auto& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

const Field* Schema::FindId(int32_t id) const {
  for (const auto& field : fields) {
    if (field.id == id) return &field;
  }
  return nullptr;
}

std::map<int32_t, int32_t> Schema::TopFields() const {
  std::map<int32_t, int32_t> tops;
  for (const auto& top : fields) {
    const std::function<void(const Field&)> note = [&](const Field& field) {
      tops[field.id] = top.id;
      for (const auto& child : field.type.children) note(child);
    };
    note(top);
  }
  return tops;
}

const Field* Schema::TopOf(int32_t id) const {
  const auto tops = TopFields();
  const auto it = tops.find(id);
  return it == tops.end() ? nullptr : FindId(it->second);
}

Result<const Field*> Schema::Get(std::string_view name) const {
  if (const Field* field = Find(name)) return field;
  std::string text = "there is no column '" + std::string(name) + "'";
  const Field* nearest = nullptr;
  size_t best = 3;
  for (const auto& field : fields) {
    const size_t distance = EditDistance(field.name, name);
    if (distance < best) {
      best = distance;
      nearest = &field;
    }
  }
  if (nearest != nullptr) {
    text += "; did you mean '" + nearest->name + "'?";
  } else {
    text += "; the columns are ";
    for (size_t i = 0; i < fields.size() && i < 12; ++i) text += (i ? ", " : "") + fields[i].name;
    if (fields.size() > 12) text += ", …";
  }
  return Status::NotFound(text);
}

std::shared_ptr<arrow::Schema> Schema::ToArrow() const {
  arrow::FieldVector converted;
  for (const auto& field : fields) converted.push_back(table::ToArrow(field));
  return arrow::schema(std::move(converted));
}

bool Schema::Equals(const Schema& other) const {
  if (fields.size() != other.fields.size()) return false;
  for (size_t i = 0; i < fields.size(); ++i) {
    const Field& a = fields[i];
    const Field& b = other.fields[i];
    if (a.id != b.id || a.name != b.name || !a.type.Equals(b.type)) return false;
  }
  return true;
}

Status ValidateName(std::string_view what, std::string_view name) {
  const std::string label = std::string(what);
  if (name.empty()) return Status::Invalid("a " + label + " needs a name; this one is empty");
  if (static_cast<int64_t>(name.size()) > limits::kMaxNameBytes) {
    return Status::Limit("the " + label + " name '" + std::string(name.substr(0, 40)) + "…' has " +
                         std::to_string(name.size()) + " bytes; at most " +
                         std::to_string(limits::kMaxNameBytes) + " are allowed");
  }
  arrow::util::InitializeUTF8();
  if (!arrow::util::ValidateUTF8(reinterpret_cast<const uint8_t*>(name.data()),
                                 static_cast<int64_t>(name.size()))) {
    return Status::Invalid("a " + label + " name is not valid UTF-8");
  }
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return Status::Invalid("the " + label + " name '" + std::string(name) + "' holds a control character");
    }
  }
  if (name == kRowIdColumn || name == kRowPlaceColumn)
    return Status::Invalid("'" + std::string(name) + "' is every table's own; choose another " + label +
                           " name");
  return Status::Ok();
}

Result<Schema> SchemaFromArrow(const arrow::Schema& schema) {
  Schema result;
  std::set<std::string> names;
  if (schema.num_fields() > limits::kMaxColumns) {
    return Status::Limit(std::to_string(schema.num_fields()) + " columns; a table has at most " +
                         std::to_string(limits::kMaxColumns));
  }
  for (const auto& source : schema.fields()) {
    HEADRACE_TRY(ValidateName("column", source->name()));
    if (!names.insert(source->name()).second) {
      return Status::Invalid("two columns are named '" + source->name() + "'; rename one");
    }
    Field field;
    field.name = source->name();
    HEADRACE_ASSIGN(field.type, TypeFromArrow(*source));
    result.fields.push_back(std::move(field));
  }
  return result;
}

void AssignIds(std::vector<Field>* fields, int32_t* next_id) {
  for (auto& field : *fields) {
    if (field.id < 0) {
      field.id = (*next_id)++;
      field.widened = false;  // no file has it yet
    }
    AssignIds(&field.type.children, next_id);
  }
}

nlohmann::json FieldToJson(const Field& field) {
  nlohmann::json json = {{"id", field.id}, {"name", field.name}};
  if (field.type.children.empty()) {
    json["type"] = field.type.ToString();
  } else {
    json["type"] = KindName(field.type.kind);
    for (const auto& child : field.type.children) json["fields"].push_back(FieldToJson(child));
  }
  if (field.has_default) json["default"] = field.default_value;
  if (field.widened) json["widened"] = true;
  return json;
}

Result<Field> FieldFromJson(const nlohmann::json& json, int depth) {
  if (depth > limits::kMaxNesting) return Status::Corrupt("a schema nests too deep");
  Field field;
  field.id = JsonInt<int32_t>(json.at("id"));
  field.name = json.at("name").get<std::string>();
  const auto type = json.at("type").get<std::string>();
  if (json.contains("fields")) {
    static const std::map<std::string, Kind> kNested = {
        {"list", Kind::kList}, {"struct", Kind::kStruct}, {"map", Kind::kMap}, {"blob", Kind::kBlob}};
    const auto known = kNested.find(type);
    if (known == kNested.end()) {
      return Status::Unsupported("the column '" + field.name + "' has the type '" + type +
                                 "', which this Headrace does not know; a newer one wrote it");
    }
    field.type.kind = known->second;
    for (const auto& child : json.at("fields")) {
      HEADRACE_ASSIGN(Field nested, FieldFromJson(child, depth + 1));
      field.type.children.push_back(std::move(nested));
    }
    if (field.type.kind == Kind::kList && field.type.children.size() != 1) {
      return Status::Corrupt("a list column has " + std::to_string(field.type.children.size()) +
                             " item types");
    }
    if (field.type.kind == Kind::kMap && field.type.children.size() != 2)
      return Status::Corrupt("a map column has " + std::to_string(field.type.children.size()) + " types");
  } else {
    HEADRACE_ASSIGN(field.type, ParseType(type));
  }
  field.widened = json.value("widened", false);
  if (json.contains("default")) {
    field.has_default = true;
    field.default_value = json.at("default").get<std::string>();
  }
  return field;
}

}  // namespace headrace::table
