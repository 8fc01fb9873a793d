#include "table/projection.h"

#include <arrow/type.h>

#include <algorithm>

#include "table/expr.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

// `field` with nothing under it but the way to the path's end.
Field Prune(const Field& field, const std::vector<std::string>& path, size_t depth) {
  if (depth >= path.size()) return field;
  Field pruned = field;
  pruned.type.children.clear();
  if (field.type.kind == Kind::kBlob) pruned.type.kind = Kind::kStruct;
  for (const auto& child : field.type.children) {
    if (child.name == path[depth]) pruned.type.children.push_back(Prune(child, path, depth + 1));
  }
  return pruned;
}

std::vector<std::string> SplitDots(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool IsPack(const Schema& schema, const std::vector<std::string>& path) {
  const Field* field = schema.Find(path[0]);
  for (size_t i = 1; field != nullptr && i < path.size(); ++i) {
    if (field->type.kind == Kind::kBlob) return path[i] == "pack";
    const auto& children = field->type.children;
    const auto it =
        std::find_if(children.begin(), children.end(), [&](const Field& f) { return f.name == path[i]; });
    field = it == children.end() ? nullptr : &*it;
  }
  return false;
}

}  // namespace

Result<std::vector<Projection>> ProjectColumns(const Schema& schema,
                                               const std::vector<std::string>& columns) {
  std::vector<Projection> projections;
  std::vector<std::string> names = columns;
  if (names.empty()) {
    for (const auto& field : schema.fields) names.push_back(field.name);
  }
  for (const auto& name : names) {
    HEADRACE_ASSIGN(
        Projection projection,
        ProjectPath(schema, name, schema.Find(name) ? std::vector<std::string>{name} : SplitDots(name)));
    for (const auto& other : projections) {
      if (other.name == name) return Status::Invalid("the column '" + name + "' is asked for twice");
    }
    projections.push_back(std::move(projection));
  }
  return projections;
}

Result<Projection> ProjectPath(const Schema& schema, std::string name, std::vector<std::string> path) {
  Projection projection;
  const Field* top = nullptr;
  HEADRACE_ASSIGN(projection.leaf, ResolvePath(schema, path, &top));
  projection.top = top == nullptr ? projection.leaf : Prune(*top, path, 1);
  projection.pack = IsPack(schema, path);
  projection.name = std::move(name);
  projection.path = std::move(path);
  return projection;
}

std::shared_ptr<arrow::Schema> ToArrow(const std::vector<Projection>& projections) {
  arrow::FieldVector fields;
  for (const auto& column : projections) {
    Field named = column.leaf;
    named.name = column.name;
    fields.push_back(ToArrow(named));
  }
  return arrow::schema(std::move(fields));
}

}  // namespace headrace::table
