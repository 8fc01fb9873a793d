#include "api/fields.h"

#include <cmath>

#include "base/ordered_json.h"

namespace headrace::api {

std::string KindOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return value.is_number_integer() ? "an integer" : "a number";
  }
}

void Refuse(const std::string& param, const std::string& message) { throw Fault::Field(param, message); }

Json ParseBody(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos)
    Refuse("", "the request has no body; a JSON object is expected");
  if (JsonDepth(body) > kMaxJsonDepth)
    Refuse("", "the JSON is nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
  auto parsed = ParseOrderedJson(body);
  if (!parsed.ok()) Refuse("", "the body is not JSON: " + parsed.status().message());
  if (!parsed->is_object()) Refuse("", "the body is " + KindOf(*parsed) + "; a JSON object is expected");
  return std::move(*parsed);
}

Fields::Fields(const Json& object, std::string at) : object_(object), at_(std::move(at)) {
  if (!object.is_object()) Refuse(at_, "must be an object, not " + KindOf(object));
}

void Fields::Wrong(const std::string& name, const std::string& wanted, const Json& got) const {
  Refuse(PathOf(name), "must be " + wanted + ", not " + KindOf(got));
}

const Json* Fields::Find(const std::string& name) {
  seen_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const Json& Fields::Need(const std::string& name) {
  const Json* value = Find(name);
  if (value == nullptr) Refuse(PathOf(name), "is missing");
  return *value;
}

std::optional<std::string> Fields::Text(const std::string& name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) Wrong(name, "a string", *value);
  return value->get<std::string>();
}

std::string Fields::NeedText(const std::string& name) {
  Need(name);
  return *Text(name);
}

std::optional<double> Fields::Number(const std::string& name, double least, double most) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) Wrong(name, "a number", *value);
  const auto number = value->get<double>();
  if (!(number >= least && number <= most)) {
    char text[96];
    std::snprintf(text, sizeof text, "must be from %g to %g; it is %g", least, most, number);
    Refuse(PathOf(name), text);
  }
  return number;
}

std::optional<int64_t> Fields::Integer(const std::string& name, int64_t least, int64_t most) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const bool whole = value->is_number_float() &&
                     std::nearbyint(value->get<double>()) == value->get<double>() &&
                     std::abs(value->get<double>()) < 1e15;
  if (!value->is_number_integer() && !whole) Wrong(name, "an integer", *value);
  const bool huge = value->is_number_unsigned() &&
                    value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t number = huge ? std::numeric_limits<int64_t>::max() : value->get<int64_t>();
  if (huge || number < least || number > most)
    Refuse(PathOf(name), "must be from " + std::to_string(least) + " to " + std::to_string(most) +
                             "; it is " + value->dump());
  return number;
}

bool Fields::Flag(const std::string& name, bool otherwise) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) Wrong(name, "true or false", *value);
  return value->get<bool>();
}

const Json* Fields::Array(const std::string& name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_array()) Wrong(name, "an array", *value);
  return value;
}

const Json* Fields::Object(const std::string& name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_object()) Wrong(name, "an object", *value);
  return value;
}

std::vector<std::string> Fields::Texts(const std::string& name) {
  const Json* value = Find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) Wrong(name, "a string or an array of strings", *value);
  std::vector<std::string> texts;
  for (size_t i = 0; i < value->size(); ++i) {
    if (!(*value)[i].is_string())
      Refuse(PathOf(name) + "[" + std::to_string(i) + "]", "must be a string, not " + KindOf((*value)[i]));
    texts.push_back((*value)[i].get<std::string>());
  }
  return texts;
}

void Fields::Rest(std::vector<std::string>* unknown) const {
  for (const auto& [name, value] : object_.items())
    if (seen_.count(name) == 0 && unknown->size() < 32) unknown->push_back(PathOf(name));
}

}  // namespace headrace::api
