// The native half of the Python package. What users see is in headrace/*.py.
#include "module.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "base/version.h"
#include "media/media.h"

namespace headrace::python {

NB_MODULE(_native, m) {
  // What daemon threads and other modules still hold when the interpreter ends is no leak of a program's.
  nb::set_leak_warnings(false);
  m.def("version", [] { return std::string(Version()); });
  BindTable(m);
  BindInspect(m);
  BindRows(m);
  BindColumns(m);
  BindCatalog(m);
  BindStream(m);
  BindRun(m);
  // For objects with threads of their own, in a forked child: never taken down.
  m.def("abandon", [](nb::handle object) { object.inc_ref(); });
  // (media type, width, height)
  m.def("probe_image", [](const nb::bytes& bytes) {
    const auto facts = Check(media::ProbeImage({bytes.c_str(), bytes.size()}));
    return nb::make_tuple(facts.media_type, facts.width, facts.height);
  });
  m.def("decode_image", [](const nb::bytes& bytes, bool upright) {
    auto image = Check(Interruptible([&](const StopToken&) {
      return media::DecodeImage({bytes.c_str(), bytes.size()}, upright);
    }));
    auto* pixels = new std::vector<uint8_t>(std::move(image.pixels));
    const nb::capsule owner(pixels, [](void* p) noexcept { delete static_cast<std::vector<uint8_t>*>(p); });
    const size_t shape[3] = {static_cast<size_t>(image.height), static_cast<size_t>(image.width), 3};
    return nb::ndarray<nb::numpy, uint8_t, nb::ndim<3>>(pixels->data(), 3, shape, owner);
  });
}

}  // namespace headrace::python
