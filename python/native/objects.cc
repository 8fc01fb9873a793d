#include "objects.h"

#include <Python.h>
#include <arrow/type.h>
#include <nanobind/stl/chrono.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>

#include "base/limits.h"
#include "bridge.h"

namespace headrace::python {
namespace {

bool Subclass(nb::handle type, nb::handle of) {
  const int is = PyObject_IsSubclass(type.ptr(), of.ptr());
  if (is < 0) throw nb::python_error();
  return is == 1;
}

std::string TypeName(nb::handle value) { return nb::cast<std::string>(value.type().attr("__name__")); }

void ObserveInt(Node* node, nb::handle value, int64_t row) {
  const nb::object number = nb::steal(PyNumber_Index(value.ptr()));
  if (!number.is_valid()) throw nb::python_error();
  int overflow = 0;
  const long long small = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow == 0) {
    node->negative |= small < 0;
    constexpr long long kExact = 1LL << 53;
    if ((small > kExact || small < -kExact) && node->inexact < 0) {
      const auto rounded = static_cast<double>(small);
      // 2^63 itself is out of range for the cast back.
      if (rounded >= 9223372036854775808.0 || static_cast<long long>(rounded) != small) node->inexact = row;
    }
    return;
  }
  if (node->beyond < 0) node->beyond = row;
  if (node->inexact < 0) node->inexact = row;
  PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    Refuse(*node, row, "an integer has more than 64 bits; write it as text, or as bytes");
  }
}

void ObserveDecimal(Node* node, nb::handle value, int64_t row) {
  const nb::object parts = value.attr("as_tuple")();
  if (!nb::isinstance<nb::int_>(parts.attr("exponent")))
    Refuse(*node, row, "a Decimal is not finite; use None, or floats");
  const auto exponent = nb::cast<int64_t>(parts.attr("exponent"));
  const auto digits = static_cast<int64_t>(nb::len(nb::object(parts.attr("digits"))));
  node->scale = std::max(node->scale, std::max<int64_t>(0, -exponent));
  node->digits = std::max(node->digits, std::max<int64_t>(1, digits + exponent));
  if (node->digits + node->scale > 76)
    Refuse(*node, row, "decimals with more than 76 digits; write them as text");
}

// A part of the column, inside of another one.
std::unique_ptr<Node> Inside(const Node& outer, const std::string& path) {
  auto node = std::make_unique<Node>();
  node->path = outer.path + path;
  node->depth = outer.depth + 1;
  node->lists = node->nested = true;
  return node;
}

void ObserveStruct(Objects* objects, Node* node, nb::handle value, int64_t row) {
  PyObject *key = nullptr, *item = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(value.ptr(), &at, &key, &item) != 0) {
    if (PyUnicode_Check(key) == 0)
      Refuse(*node, row, "a dict has a key that is not text; use a list of pairs instead");
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(key, &size);
    if (bytes == nullptr) throw nb::python_error();
    const std::string text(bytes, static_cast<size_t>(size));
    if (text.find('\0') != std::string::npos)
      Refuse(*node, row, "a dict has a key with a NUL in it, which no field has; hr.Json(value) keeps it");
    const auto [known, added] = node->field_of.try_emplace(text, node->fields.size());
    if (added) node->fields.emplace_back(text, Inside(*node, "." + text));
    Observe(objects, node->fields[known->second].second.get(), item, row);
  }
}

void ObserveList(Objects* objects, Node* node, nb::handle value, int64_t row) {
  if (!node->item) node->item = Inside(*node, "[]");
  for (const nb::handle item : nb::iter(value)) Observe(objects, node->item.get(), item, row);
}

void ObserveArray(Node* node, nb::handle value, bool first) {
  std::vector<int64_t> shape;
  for (const nb::handle extent : value.attr("shape")) shape.push_back(nb::cast<int64_t>(extent));
  const std::string width = nb::cast<std::string>(value.attr("dtype").attr("name"));
  if (first) {
    node->shape = std::move(shape);
    node->width = width;
  } else if (node->shape != shape || node->width != width) {
    node->lists = true;
  }
  static const char* const kElements[] = {"float32", "float16", "int8", "uint8"};
  const bool element = std::any_of(std::begin(kElements), std::end(kElements),
                                   [&](const char* name) { return width == name; });
  const bool empty = std::find(node->shape.begin(), node->shape.end(), 0) != node->shape.end();
  if (!element || empty) node->lists = true;
}

// Numbers of two kinds in one column: the kind that holds both exactly, or kOther.
Form Join(Form a, Form b) {
  if (a == b) return a;
  const auto are = [&](Form x, Form y) { return (a == x && b == y) || (a == y && b == x); };
  if (are(Form::kInt, Form::kFloat)) return Form::kFloat;
  if (are(Form::kInt, Form::kDecimal)) return Form::kDecimal;
  if (are(Form::kBytes, Form::kMedia)) return Form::kMedia;
  if (are(Form::kUuid, Form::kText)) return Form::kText;
  if (are(Form::kList, Form::kArray)) return Form::kList;
  return Form::kOther;
}

bool IsContainer(Form form) { return form == Form::kList || form == Form::kStruct; }

bool FitsJson(Form form) {
  return IsContainer(form) || form == Form::kNull || form == Form::kBool || form == Form::kInt ||
         form == Form::kFloat || form == Form::kText || form == Form::kUuid || form == Form::kJson;
}

std::string Advice(Form a, Form b) {
  const auto has = [&](Form x) { return a == x || b == x; };
  if (has(Form::kInstant) && has(Form::kDatetime)) return "give all times a zone, or none";
  if (has(Form::kFloat) && has(Form::kDecimal)) return "make all of them Decimal, or all float";
  if (has(Form::kBool)) return "make all of them bool, or none";
  return "a column has one type: write all as text, or use two columns";
}

}  // namespace

void Refuse(const Node& node, int64_t row, const std::string& why) {
  Raise(Status::Invalid("column '" + node.path + "', row " + std::to_string(row) + ": " + why));
}

Objects::Objects() {
  const nb::object times = nb::module_::import_("datetime");
  datetime_ = times.attr("datetime");
  date_ = times.attr("date");
  time_ = times.attr("time");
  timedelta_ = times.attr("timedelta");
  const nb::object own = nb::module_::import_("headrace.objects");
  plain_ = own.attr("plain");
  media_ = own.attr("Media");
  json_ = own.attr("Json");
  json_text_ = own.attr("json_text");
  const nb::object numpy = nb::module_::import_("numpy");
  numpy_bool_ = numpy.attr("bool_");
  numpy_number_ = numpy.attr("number");
  numpy_integer_ = numpy.attr("integer");
  ndarray_ = numpy.attr("ndarray");
  decimal_ = nb::module_::import_("decimal").attr("Decimal");
  enum_ = nb::module_::import_("enum").attr("Enum");
  uuid_ = nb::module_::import_("uuid").attr("UUID");
}

Form Objects::Classify(nb::handle type) const {
  const auto is = [&](PyTypeObject* of) {
    return PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), of) != 0;
  };
  if (Subclass(type, enum_)) return Form::kOther;
  if (is(&PyBool_Type) || Subclass(type, numpy_bool_)) return Form::kBool;
  if (is(&PyLong_Type)) return Form::kInt;
  if (is(&PyFloat_Type)) return Form::kFloat;
  if (is(&PyUnicode_Type)) return Form::kText;
  if (Subclass(type, media_)) return Form::kMedia;
  if (Subclass(type, json_)) return Form::kJson;
  if (is(&PyBytes_Type)) return Form::kBytes;
  if (Subclass(type, datetime_)) return Form::kDatetime;
  if (Subclass(type, date_)) return Form::kDate;
  if (Subclass(type, time_)) return Form::kTime;
  if (Subclass(type, timedelta_)) return Form::kDelta;
  if (is(&PyDict_Type)) return Form::kStruct;
  if (is(&PyList_Type) || is(&PyTuple_Type)) return Form::kList;
  if (Subclass(type, decimal_)) return Form::kDecimal;
  if (Subclass(type, uuid_)) return Form::kUuid;
  const std::string name = nb::cast<std::string>(type.attr("__name__"));
  if (Subclass(type, numpy_integer_) && name != "timedelta64") return Form::kInt;
  if (name == "float16" || name == "float32") return Form::kFloat;
  return Form::kOther;
}

Form Objects::FormOf(nb::handle value) {
  if (value.is_none()) return Form::kNull;
  const nb::handle type = value.type();
  auto known = forms_.find(type.ptr());
  if (known == forms_.end()) known = forms_.emplace(type.ptr(), Classify(type)).first;
  if (known->second == Form::kDatetime) {
    if (nb::hasattr(value, "nanosecond") && value.attr("nanosecond").is_none()) return Form::kNull;
    return zoned(value) ? Form::kInstant : Form::kDatetime;
  }
  if (known->second != Form::kOther || !Subclass(type, ndarray_)) return known->second;
  const auto made = made_.find(value.ptr());  // an array that `plain` leaves as it is is one of numbers
  return made != made_.end() && made->second.to.is(value) ? Form::kArray : Form::kOther;
}

nb::handle Objects::Plain(nb::handle value, const Node& node, int64_t row, int depth) {
  if (FormOf(value) != Form::kOther) return value;
  auto kept = made_.find(value.ptr());
  if (kept == made_.end()) {
    nb::object made;
    try {
      made = plain_(value);
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError)) throw;
      Refuse(node, row, nb::cast<std::string>(nb::str(error.value())));
    }
    kept = made_.emplace(value.ptr(), Made{nb::borrow(value), std::move(made)}).first;
  }
  constexpr int kDepth = 8;  // an enum's value may be a path, a path's …
  if (depth == kDepth) Refuse(node, row, "a " + TypeName(value) + " is nothing that a column holds");
  return Plain(kept->second.to, node, row, depth + 1);
}

std::string Objects::WidthOf(nb::handle value) const {
  if (PyLong_CheckExact(value.ptr()) != 0 || PyFloat_CheckExact(value.ptr()) != 0) return "";
  if (!Subclass(value.type(), numpy_number_)) return "";
  return nb::cast<std::string>(value.type().attr("__name__"));
}

bool Objects::zoned(nb::handle datetime) const { return !datetime.attr("utcoffset")().is_none(); }

CalendarTime CalendarTime::Of(nb::handle value) {
  CalendarTime t;
  const int found = nb::detail::unpack_datetime(value.ptr(), &t.year, &t.month, &t.day, &t.hour, &t.minute,
                                                &t.second, &t.microsecond);
  if (found < 0) throw nb::python_error();
  if (found == 0) throw nb::type_error("not a date, a time or a datetime");
  return t;
}

int64_t CalendarTime::days() const {
  using namespace std::chrono;
  const auto date = std::chrono::year{year} / static_cast<unsigned>(month) / static_cast<unsigned>(day);
  return sys_days{date}.time_since_epoch().count();
}

int64_t CalendarTime::microseconds() const {
  return ((hour * int64_t{60} + minute) * 60 + second) * 1'000'000 + microsecond;
}

void Expect(Node* node, const table::Type& type) {
  const std::string text = type.ToString();
  if (text.find("json") == std::string::npos && text.find("string") == std::string::npos) return;
  if (type.kind == table::Kind::kString) {
    node->texts = true;
  } else if (type.kind == table::Kind::kJson) {
    node->form = Form::kJson;
    node->type = "json";
  } else if (type.kind == table::Kind::kList) {
    node->item = Inside(*node, "[]");
    Expect(node->item.get(), type.children[0].type);
  } else if (type.kind == table::Kind::kStruct) {
    for (const auto& child : type.children) {
      node->field_of[child.name] = node->fields.size();
      node->fields.emplace_back(child.name, Inside(*node, "." + child.name));
      Expect(node->fields.back().second.get(), child.type);
    }
  }
}

void Settle(Node* node) {
  if (node->nested && node->form == Form::kNull) node->form = Form::kJson;
  if (node->form == Form::kStruct && node->fields.empty()) node->form = Form::kJson;
  if (node->form == Form::kList && !node->item) {
    node->item = std::make_unique<Node>();
    node->item->nested = true;
  }
  if (node->form == Form::kList) Settle(node->item.get());
  if (node->form != Form::kStruct) return;
  for (auto& [name, field] : node->fields) Settle(field.get());
}

void Observe(Objects* objects, Node* node, nb::handle given, int64_t row) {
  if (node->depth > limits::kMaxJsonDepth) {
    const std::string column = node->path.substr(0, node->path.find_first_of(".["));
    Raise(Status::Limit("column '" + column + "', row " + std::to_string(row) +
                        ": lists and dicts nest deeper than " + std::to_string(limits::kMaxJsonDepth) +
                        ", or hold themselves"));
  }
  const nb::handle value = objects->Plain(given, *node, row);
  Form form = objects->FormOf(value);
  if (form == Form::kNull) return;
  if (form == Form::kArray && node->lists) form = Form::kList;
  if (form == Form::kUuid && node->texts) form = Form::kText;
  const bool first = node->form == Form::kNull;
  Form joined = first ? form : Join(node->form, form);
  const bool mixed = joined == Form::kOther && (node->nested || IsContainer(form) || IsContainer(node->form));
  if (node->form == Form::kJson || form == Form::kJson || mixed) {
    joined = FitsJson(form) && FitsJson(node->form) ? Form::kJson : Form::kOther;
  }
  if (joined == Form::kOther) {
    Refuse(*node, row,
           "a value of the type " + TypeName(value) + " beside " + node->type + " (row " +
               std::to_string(node->row) + "); " + Advice(node->form, form));
  }
  if (first) {
    node->row = row;
    node->type = TypeName(value);
  }
  if (joined == Form::kJson) {
    node->form = joined;
    node->item = nullptr;
    node->fields.clear();
    node->field_of.clear();
    return;
  }
  if (node->form == Form::kArray && joined == Form::kList) node->lists = true;
  node->form = joined;
  node->whole |= form == Form::kInt;
  switch (form) {
    case Form::kInt:
    case Form::kFloat: {
      const std::string width = objects->WidthOf(value);
      node->width = first || node->width == width ? width : "";
      if (form == Form::kInt) ObserveInt(node, value, row);
      if (joined == Form::kDecimal) node->digits = std::max<int64_t>(node->digits, 20);
      break;
    }
    case Form::kInstant:
    case Form::kDatetime:
      if (!value.type().is(objects->datetime()) && nb::hasattr(value, "nanosecond"))
        node->nanoseconds |= nb::cast<int64_t>(value.attr("nanosecond")) != 0;
      break;
    case Form::kDecimal:
      if (node->whole) node->digits = std::max<int64_t>(node->digits, 20);
      ObserveDecimal(node, value, row);
      break;
    case Form::kList:
      ObserveList(objects, node, value, row);
      break;
    case Form::kStruct:
      ObserveStruct(objects, node, value, row);
      break;
    case Form::kArray:
      ObserveArray(node, value, first);
      break;
    default:
      break;
  }
  if (joined == Form::kFloat && node->inexact >= 0)
    Refuse(*node, node->inexact,
           "an integer beside floats has more digits than a float holds; "
           "make the floats Decimal, or write all as text");
}

}  // namespace headrace::python
