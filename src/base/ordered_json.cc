#include "base/ordered_json.h"

#include <algorithm>
#include <vector>

#include "base/exception_text.h"

namespace headrace {
namespace {

using Json = nlohmann::ordered_json;

// Builds the value member by member. nlohmann's own builder looks through all members for each new one: a
// body of a million names would take hours.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    open_.back()->get_ref<Json::object_t&>().emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    if (const std::string* twice = Twice(members)) {
      problem_ = "'" + PathTo(*twice) + "' appears twice in one object";
      return false;
    }
    return Close();
  }
  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    problem_ = ExceptionText(error);
    return false;
  }

  Json Take() { return std::move(whole_); }
  const std::string& problem() const { return problem_; }

 private:
  template <typename Value>
  bool Add(Value&& value) {
    *Place() = std::forward<Value>(value);
    return true;
  }
  bool Open(Json value) {
    Json* place = Place();
    *place = std::move(value);
    open_.push_back(place);  // stays where it is: nothing joins its parent before it is closed
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }
  Json* Place() {
    if (open_.empty()) return &whole_;
    if (open_.back()->is_object()) return &open_.back()->get_ref<Json::object_t&>().back().second;
    return &open_.back()->get_ref<Json::array_t&>().emplace_back();
  }

  static const std::string* Twice(const Json::object_t& members) {
    std::vector<const std::string*> names;
    names.reserve(members.size());
    for (const auto& [name, value] : members) names.push_back(&name);
    std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
    const auto same =
        std::adjacent_find(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a == *b; });
    return same == names.end() ? nullptr : *same;
  }
  // Every open value is its parent's last.
  std::string PathTo(const std::string& name) const {
    std::string path;
    for (size_t i = 0; i + 1 < open_.size(); ++i) {
      if (open_[i]->is_array()) {
        path += "[" + std::to_string(open_[i]->size() - 1) + "]";
      } else {
        path += (path.empty() ? "" : ".") + open_[i]->get_ref<Json::object_t&>().back().first;
      }
    }
    return (path.empty() ? "" : path + ".") + name;
  }

  Json whole_;
  std::string problem_;
  std::vector<Json*> open_;
};

}  // namespace

Result<Json> ParseOrderedJson(std::string_view text) {
  Builder builder;
  if (!Json::sax_parse(text, &builder)) return Status::Invalid(builder.problem());
  return builder.Take();
}

int JsonDepth(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return most;
}

}  // namespace headrace
