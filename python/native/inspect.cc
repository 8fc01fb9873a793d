// What is told of tables.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "module.h"
#include "table/split.h"

namespace headrace::python {

void BindInspect(nb::module_& m) {
  m.def("check_split", [](const std::string& parts) { Check(table::Split::Parse(parts)); });
}

}  // namespace headrace::python
