#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/base64.h"
#include "base/json.h"
#include "cli/page.h"
#include "cli/run_page_parts.h"

namespace headrace::cli {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// As stepsOf() in the script reads them.
Json Steps(const std::vector<trace::CurvePoint>& points, PageArrays* arrays) {
  const int64_t first = points[0].step;
  const auto after = [&](const trace::CurvePoint& p) {
    return static_cast<uint64_t>(p.step) - static_cast<uint64_t>(first);
  };
  const uint64_t stride = points.size() > 1 ? after(points[1]) : 0;
  bool even = true;
  for (size_t i = 0; i < points.size() && even; ++i) even = after(points[i]) == stride * i;
  Json steps = {{"first", std::to_string(first)}};
  if (even) {
    steps["stride"] = std::to_string(stride);
  } else if (after(points.back()) <= UINT32_MAX) {
    std::vector<uint32_t> offsets;
    for (const auto& p : points) offsets.push_back(static_cast<uint32_t>(after(p)));
    steps["offsets"] = arrays->AddCounts(offsets);
  } else {
    std::vector<int64_t> all;
    for (const auto& p : points) all.push_back(p.step);
    steps["offsets"] = arrays->Add("i8", BytesOf(all));
  }
  return steps;
}

// In whole units of a microsecond or more, so that they fit 32 bits.
Json Times(const std::vector<trace::CurvePoint>& points, int64_t began, PageArrays* arrays) {
  const auto [first, last] = std::ranges::minmax_element(points, {}, &trace::CurvePoint::micros);
  const auto unit = static_cast<int64_t>((last->micros - first->micros) / UINT32_MAX + 1);
  Json times = {{"first", first->micros - began}, {"unit", unit}};
  std::vector<uint32_t> ticks;
  for (const auto& p : points) ticks.push_back(static_cast<uint32_t>((p.micros - first->micros) / unit));
  if (last->micros > first->micros) times["ticks"] = arrays->AddCounts(ticks);
  return times;
}

Json BucketData(const trace::Buckets& buckets, PageArrays* arrays) {
  // Indices of buckets may be 2^32 apart: then the offsets are numbers with fractions' room.
  std::vector<double> far, min, max, mean;
  std::vector<uint32_t> offsets, n, nans, plus, minus;
  const int64_t first = buckets.all().begin()->first;
  for (const auto& [index, bucket] : buckets.all()) {
    const uint64_t offset = static_cast<uint64_t>(index) - static_cast<uint64_t>(first);
    far.push_back(static_cast<double>(offset));
    offsets.push_back(static_cast<uint32_t>(offset));
    min.push_back(bucket.n > 0 ? bucket.min : NAN);
    max.push_back(bucket.n > 0 ? bucket.max : NAN);
    mean.push_back(bucket.n > 0 ? static_cast<float>(bucket.sum / bucket.n) : NAN);
    n.push_back(bucket.n);
    nans.push_back(bucket.nans);
    plus.push_back(bucket.plus);
    minus.push_back(bucket.minus);
  }
  return {
      {"shift", buckets.shift()},
      {"first", std::to_string(first)},
      {"offsets", far.back() <= UINT32_MAX ? arrays->AddCounts(offsets) : arrays->Add("f8", BytesOf(far))},
      {"min", arrays->AddFloats(min)},
      {"max", arrays->AddFloats(max)},
      {"mean", arrays->AddFloats(mean)},
      {"n", arrays->AddCounts(n)},
      {"nans", arrays->AddOdd(nans)},
      {"plus", arrays->AddOdd(plus)},
      {"minus", arrays->AddOdd(minus)}};
}

}  // namespace

Json PageArrays::Add(const char* type, std::string_view bytes) {
  const auto [at, is_new] = known_.try_emplace(type + std::string(bytes), elements_.size());
  if (is_new) elements_.push_back(EncodeBase64(bytes));
  return {{"type", type}, {"at", at->second}};
}

Json PageArrays::AddFloats(const std::vector<double>& values) {
  std::vector<float> narrow;
  narrow.reserve(values.size());
  for (const double value : values) {
    const bool fits = !std::isfinite(value) || std::abs(value) <= FLT_MAX;
    narrow.push_back(fits ? static_cast<float>(value) : 0);
    if (!std::isnan(value) && static_cast<double>(narrow.back()) != value) return Add("f8", BytesOf(values));
  }
  return Add("f4", BytesOf(narrow));
}

Json PageArrays::AddCounts(const std::vector<uint32_t>& values) { return Add("u4", BytesOf(values)); }

Json PageArrays::AddOdd(const std::vector<uint32_t>& values) {
  return std::ranges::all_of(values, [](uint32_t value) { return value == 0; }) ? Json() : AddCounts(values);
}

size_t PageArrays::AddText(std::string base64) {
  elements_.push_back(std::move(base64));
  return elements_.size() - 1;
}

void PageArrays::AppendTo(std::string* page) const {
  for (size_t i = 0; i < elements_.size(); ++i) *page += TextElement("a" + std::to_string(i), elements_[i]);
}

Json SeriesData(const trace::RunCurve& curve, int64_t began, PageArrays* arrays) {
  if (curve.form == trace::RunCurve::kBuckets)
    return {{"buckets",
             {{"step", BucketData(curve.by_step, arrays)}, {"time", BucketData(curve.by_time, arrays)}}}};
  std::vector<double> values;
  for (const auto& p : curve.whole) values.push_back(p.value);
  return {{"points",
           {{"steps", Steps(curve.whole, arrays)},
            {"times", Times(curve.whole, began, arrays)},
            {"values", arrays->AddFloats(values)}}}};
}

Json PageNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

}  // namespace headrace::cli
