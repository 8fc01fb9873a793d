// Python objects as Arrow arrays: one pass over a column's values finds the type that holds all of them as
// they are, another one builds the array.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/type.h"

namespace headrace::python {

namespace nb = nanobind;

// A column built from objects; `metadata` goes to its field (a tensor's shape, media).
struct Column {
  std::shared_ptr<arrow::Array> values;
  std::shared_ptr<const arrow::KeyValueMetadata> metadata;
};

enum class Form {
  kNull,
  kBool,
  kInt,
  kFloat,
  kText,
  kBytes,
  kMedia,     // bytes that are a picture or a blob
  kInstant,   // datetime with a zone
  kDatetime,  // without
  kDate,
  kTime,
  kDelta,
  kDecimal,
  kUuid,
  kList,
  kStruct,
  kArray,  // numpy array of numbers
  kJson,   // values of several kinds, as JSON text
  kOther,  // ask `plain`
};

// What is known of a column, or of a part of it, from the values seen so far.
struct Node {
  std::string path;  // "messages.content"
  int depth = 0;     // of lists and dicts around it
  Form form = Form::kNull;
  int64_t row = -1;  // the first that has a value, and its Python type
  std::string type;
  std::string width;  // the numpy type that all numbers have; empty: Python's, or several
  bool negative = false;
  int64_t beyond = -1;   // first row of an integer from 2^63
  int64_t inexact = -1;  // first row of an integer that no double holds
  bool whole = false;    // integers were seen, in a column that became kFloat or kDecimal
  bool nanoseconds = false;
  int64_t digits = 0;  // decimals: before and after the point
  int64_t scale = 0;
  bool lists = false;   // arrays are taken as lists
  bool nested = false;  // inside a list or a dict
  bool texts = false;   // a table's column of text: UUIDs are written as such
  std::vector<int64_t> shape;
  std::unique_ptr<Node> item;
  std::vector<std::pair<std::string, std::unique_ptr<Node>>> fields;
  std::unordered_map<std::string, size_t> field_of;
};

// The classes that Python types belong to, and `plain` for all others: headrace.objects.plain, whose answers
// are kept until the column is built.
class Objects {
 public:
  Objects();
  Form FormOf(nb::handle value);
  // The value itself, or what `plain` makes of it.
  nb::handle Plain(nb::handle value, const Node& node, int64_t row, int depth = 0);
  std::string WidthOf(nb::handle value) const;  // "float32" of a numpy scalar, "" of Python's numbers
  bool zoned(nb::handle datetime) const;
  nb::object JsonText(nb::handle value) const { return json_text_(value); }
  const nb::object& datetime() const { return datetime_; }

 private:
  Form Classify(nb::handle type) const;

  nb::object plain_, media_, json_, json_text_, numpy_bool_, numpy_number_, numpy_integer_, ndarray_,
      decimal_, enum_, uuid_, datetime_, date_, time_, timedelta_;
  std::unordered_map<PyObject*, Form> forms_;
  struct Made {
    nb::object from, to;  // `from` is held so that its address stays its own
  };
  std::unordered_map<PyObject*, Made> made_;
};

// Adds a value to what is known; raises Invalid, with the column and the row, where no type holds both. Where
// a list or a dict stands beside another kind, and inside them, values of several kinds become kJson.
void Observe(Objects* objects, Node* node, nb::handle value, int64_t row);
// What a table's column has: its json parts are kJson from the start, and UUIDs go into its texts as text.
void Expect(Node* node, const table::Type& type);
// After all values: parts inside that have no type of their own (dicts without keys, nothing but None) are
// kJson.
void Settle(Node* node);
// A field of what the node says, json marked in its metadata.
std::shared_ptr<arrow::Field> FieldOf(const std::string& name, const Node& node);
// The fields of a date, a time or a datetime; those that its type lacks are 1970-01-01 and midnight.
struct CalendarTime {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0, microsecond = 0;

  static CalendarTime Of(nb::handle value);
  int64_t days() const;          // since 1970-01-01
  int64_t microseconds() const;  // since midnight
};
[[noreturn]] void Refuse(const Node& node, int64_t row, const std::string& why);

// `type`: that of the table's column, as text; empty where there is none.
Column ColumnOf(const std::string& name, const nb::list& values, const std::string& type);

}  // namespace headrace::python
