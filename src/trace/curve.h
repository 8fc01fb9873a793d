// curve: the values of one key of a run, as many as a picture has room for: for each of its columns of pixels
// the least and the greatest of all values that fall into it, exactly.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "table/catalog.h"

namespace headrace::trace {

struct CurveOptions {
  std::string run, key;
  int64_t rank = 0;
  int pixels = 2000;
  // The steps that are shown, both inclusive; all where `from` is greater than `to`.
  int64_t from = 0, to = -1;
  StopToken stop;
};

// A column of pixels: the values of the steps that fall into it. Infinities count; NaN is only counted.
struct Pixel {
  int64_t n = 0;                                 // values that are numbers
  int64_t nans = 0;                              // values that are not
  double min = 0, max = 0, first = 0, last = 0;  // of the numbers; by step
};

struct Curve {
  int64_t from = 0, to = -1;  // the first step and the last of those shown; from > to: there are none
  int64_t points = 0;         // that count, of the latest life from each step on
  std::vector<Pixel> pixels;  // step s falls into pixel (s - from) * pixels / (to - from + 1)

  size_t PixelOf(int64_t step) const;
};

// Of the newest version and what lies in this machine's spools. Empty where there are no such points.
Result<Curve> ReadCurve(const table::Catalog& catalog, const CurveOptions& options);

// The keys of a run, without those below `sys/` unless `system`, in ascending order.
Result<std::vector<std::string>> KeysOf(const table::Catalog& catalog, const std::string& run, bool system);

}  // namespace headrace::trace
