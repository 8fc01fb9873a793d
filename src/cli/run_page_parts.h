// The parts of a page of runs that are the same on every page, and what its curves are drawn from.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "trace/run_curves.h"

namespace headrace::cli {

extern const char* const kRunPageStyle;
extern const char* const kRunPageBody;
extern const char* const kPlotScript;     // curves: what columns of pixels hold, and how they are drawn
extern const char* const kRunPageScript;  // everything else

// Bytes as elements of a page, each once: keys that were logged together share their steps and times.
class PageArrays {
 public:
  // What a page's script finds them by: {"type", "at"}. `type`: f8, f4, u4, i8.
  nlohmann::ordered_json Add(const char* type, std::string_view bytes);
  nlohmann::ordered_json AddFloats(const std::vector<double>& values);  // as float32 where none loses by it
  nlohmann::ordered_json AddCounts(const std::vector<uint32_t>& values);
  // Of zeros only: null.
  nlohmann::ordered_json AddOdd(const std::vector<uint32_t>& values);
  size_t AddText(std::string base64);  // an element with this text; its number
  void AppendTo(std::string* page) const;

 private:
  std::map<std::string, size_t, std::less<>> known_;  // by type and bytes
  std::vector<std::string> elements_;                 // base64
};

// {"points": {"steps", "times", "values"}} or {"buckets": {"step", "time"}}. Times are microseconds after
// `began`.
nlohmann::ordered_json SeriesData(const trace::RunCurve& curve, int64_t began, PageArrays* arrays);
// A number, or "inf", "-inf", "nan".
nlohmann::ordered_json PageNumber(double value);

}  // namespace headrace::cli
