// run_curves: all curves of a run for a page that people zoom in: every point of those that are short, and of
// the others the exact extremes of buckets, by step and by time. Bounded, however much was logged.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "table/catalog.h"
#include "trace/metric_rows.h"

namespace headrace::trace {

// The points whose steps (or times) s have the same s >> shift. Their finite values, and what else there is.
struct Bucket {
  double min = 0, max = 0, sum = 0;
  uint32_t n = 0;                          // finite values
  uint32_t nans = 0, plus = 0, minus = 0;  // NaN, +Inf, -Inf

  void Add(double value);
  void Add(const Bucket& other);
};

// As many as are allowed: when there are more, each two become one, of twice the width.
class Buckets {
 public:
  explicit Buckets(size_t most = 1) : most_(most) {}
  void Add(int64_t at, double value);
  int shift() const { return shift_; }  // a bucket is 1 << shift wide, and begins at a multiple of that
  const std::map<int64_t, Bucket>& all() const { return all_; }  // by s >> shift; none is empty

 private:
  void Coarsen();

  size_t most_;
  int shift_ = 0;
  std::map<int64_t, Bucket> all_;
  int64_t last_index_ = 0;
  Bucket* last_ = nullptr;  // of last_index_
};

struct CurvePoint {
  int64_t step = 0, micros = 0;  // since 1970
  double value = 0;
};

struct RunCurve {
  std::string key;
  int64_t rank = 0;
  Bucket facts;  // of all points
  int64_t points = 0;
  CurvePoint last;  // of the greatest step; of several, the latest
  enum { kFacts, kPoints, kBuckets } form = kFacts;
  std::vector<CurvePoint> whole;  // kPoints: by step, then by time
  Buckets by_step, by_time;       // kBuckets; times are microseconds after `began`
};

struct RunCurvesOptions {
  std::string run;
  std::vector<std::string> keys;  // empty: all of them, with those below sys/
  int64_t began = 0;              // microseconds since 1970, from which time is counted
  int64_t most_points = 50'000;   // a curve of more is given as buckets
  int64_t most_buckets = 16'384;  // of a curve, by step and by time
  // Of all curves: a point counts one, a bucket two. Where that is not enough, the long curves share what the
  // short ones leave.
  int64_t most_cells = 2'000'000;
  int64_t most_curves = 2'000;  // of the others only facts are known
  StopToken stop;
};

struct RunCurves {
  std::vector<RunCurve> curves;    // by key, then by rank; those below sys/ last
  std::map<int64_t, Lives> lives;  // of each rank
  int64_t buckets = 0;             // that a long curve may have, by step and by time
};

// As the view `points` has them. Of the newest version and what lies in this machine's spools.
Result<RunCurves> ReadRunCurves(const table::Catalog& catalog, const RunCurvesOptions& options);

}  // namespace headrace::trace
