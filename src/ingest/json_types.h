// Types of JSON columns, from all of their values: a type is taken only if it gives every value back as it
// was; where none does, the column (or the part of it) is `json`.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_tape.h"
#include "table/type.h"

namespace headrace::ingest {

// How a date or time is written; a column of times has one form, so each can be written back.
struct TimeForm {
  char separator = 0;  // between date and time, 'T' or ' '; 0: a date alone
  int fraction = 0;    // digits of the second: 0, 3, 6 or 9
  bool utc = false;    // 'Z' at the end

  bool operator==(const TimeForm&) const = default;
  static std::optional<TimeForm> Of(std::string_view text);
  table::Type Type() const;
};

class JsonGuess {
 public:
  void Add(const JsonTape& tape, uint32_t value);
  // Merges what another part of the file saw; the parts in file order.
  void Merge(JsonGuess&& other);

  // Nothing if there was no value but null.
  std::optional<table::Type> Type(int depth) const;

  // The columns: all keys seen in rows, also those that only some rows have.
  const std::vector<std::pair<std::string, std::unique_ptr<JsonGuess>>>& fields() const { return fields_; }
  void AddRow(const JsonTape& tape, uint32_t object);

 private:
  void AddObject(const JsonTape& tape, uint32_t object, size_t most_fields);
  void AddNumber(std::string_view text, const JsonValue& number);
  void AddText(const JsonTape& tape, uint32_t value);
  JsonGuess* FieldNamed(std::string_view name, size_t hint);
  void BecomeJson();
  std::optional<table::Type> StructType(int depth) const;

  int64_t times_ = 0;                                  // it was there, null or not
  uint8_t kinds_ = 0;                                  // a bit for each kind of value
  bool json_ = false;                                  // settled: no need to look at more
  bool int64_ = true, uint64_ = true, double_ = true;  // hold all numbers
  bool fractions_ = false;  // not all of them are integers: those that are too large stay integers, in json
  bool time_ = true;
  std::optional<TimeForm> form_;
  std::unique_ptr<JsonGuess> item_;
  int64_t objects_ = 0;
  std::vector<std::pair<std::string, std::unique_ptr<JsonGuess>>> fields_;
  std::map<std::string, size_t, std::less<>> index_;  // of fields_
};

}  // namespace headrace::ingest
