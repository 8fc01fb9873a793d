#include "engine/cost_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/json.h"

namespace headrace::engine {
namespace {

constexpr double kForget = 0.2;     // weight of the newest step
constexpr double kRemember = 0.98;  // of attention's line, at each chunk
constexpr double kSpread = 300;     // tokens: chunks that all attend to as much tell nothing of it
constexpr int32_t kChunk = 64;      // rows
constexpr int64_t kTrial = 32;      // choices, one of which tries the other way

}  // namespace

int CostTable::BinOf(int32_t rows) {
  return rows <= 1 ? 0
                   : std::min(kBins - 1, static_cast<int>(std::bit_width(static_cast<uint32_t>(rows - 1))));
}

CostTable::CostTable(int max_threads, double row_seconds, const MachineProfile& machine)
    : machine_(machine), max_threads_(std::max(max_threads, 1)), attended_seconds_(machine.attended_seconds) {
  for (int t = 0; t < 2; ++t) {
    const double speed = t == 0 ? 1.0 : 1.0 + machine.thread_share * (max_threads_ - 1);
    for (int b = 0; b < kBins; ++b) {
      // Reading the weights is one row's time; each further row adds a part of it.
      tables_[static_cast<size_t>(t)][static_cast<size_t>(b)].base =
          row_seconds * (1.0 + machine.row_cost * ((1 << b) - 1)) / (b == 0 ? 1.0 : speed);
    }
  }
}

// A bin's time stands for its upper end; between two ends the time is linear in rows, above the last
// proportional.
CostTable::Between CostTable::Place(int32_t rows) {
  const int bin = BinOf(rows);
  if (bin == 0) return {0, 0, 1.0, 1.0};
  const double from = 1 << (bin - 1), to = 1 << bin;
  return {bin - 1, bin, std::clamp((rows - from) / (to - from), 0.0, 1.0), std::max(1.0, rows / to)};
}

double CostTable::Predict(const StepShape& shape, int threads) const {
  if (shape.piggybacked > 0 && shape.piggybacked < shape.rows) {
    const Piggybacked& piggybacked = piggybacked_[static_cast<size_t>(BinOf(shape.piggybacked))];
    if (piggybacked.seen > 0) {
      StepShape chunk = shape;
      chunk.rows -= shape.piggybacked;
      chunk.piggybacked = 0;
      return Predict(chunk, threads) + piggybacked.seconds;
    }
  }
  const auto& table = Table(threads);
  const Between at = Place(shape.rows);
  const double low = table[static_cast<size_t>(at.low)].base, high = table[static_cast<size_t>(at.high)].base;
  return std::max((low + (high - low) * at.share) * at.scale, 0.0) +
         attended_seconds_ * static_cast<double>(shape.attended);
}

void CostTable::Piggybacked::Learn(double newest) {
  seconds = seen == 0 ? newest : seconds + kForget * (newest - seconds);
  ++seen;
}

double CostTable::PredictDecoding(int32_t rows, int threads) const {
  const auto bin = static_cast<size_t>(BinOf(rows));
  const Piggybacked& seen = decoding_[bin];
  return seen.seen >= 2 ? seen.seconds * rows / (1 << bin) : Predict({rows, rows, 0}, threads);
}

double CostTable::PredictPrefillRow(int threads) const {
  const int32_t rows = machine_.tile > 0 ? machine_.tile - 1 : machine_.chunk;
  return Predict({rows, 1, 0}, threads) / rows;
}

// Least squares over runs of chunks of equal rows, as a long prompt gives them: what they take grows with
// what they attend to. (Measured with gemma3-270m on 2 cores: 256 rows 0.63 s at a prompt's beginning, 0.75 s
// after 3,500 tokens.)
void CostTable::LearnAttention(const StepShape& shape, double seconds) {
  const auto x = static_cast<double>(shape.attended);
  if (shape.rows != run_.rows) run_ = {shape.rows, 0, 0, 0};
  ++run_.count;
  const double dx = x - run_.x, dy = seconds - run_.y;
  run_.x += dx / run_.count;
  run_.y += dy / run_.count;
  attended_xx_ = kRemember * attended_xx_ + dx * (x - run_.x);
  attended_xy_ = kRemember * attended_xy_ + dx * (seconds - run_.y);
  const double enough = kSpread * shape.rows;
  if (attended_xx_ < 4 * enough * enough) return;
  attended_seconds_ = std::clamp(attended_xy_ / attended_xx_, 0.0, 0.7 * seconds / std::max(x, 1.0));
}

void CostTable::Observe(StepShape shape, int threads, double seconds) {
  auto& table = Table(threads);
  if (shape.rows >= kChunk && (threads > 1) == (max_threads_ > 1)) LearnAttention(shape, seconds);
  if (shape.outputs == shape.rows && (threads > 1) == (max_threads_ > 1)) {
    const auto bin = static_cast<size_t>(BinOf(shape.rows));
    Piggybacked& alone = decoding_[bin];
    const double full = seconds / shape.rows * (1 << bin);
    alone.Learn(full);
  }
  const int32_t decoding = std::exchange(shape.piggybacked, 0);
  if (decoding > 0 && decoding < shape.rows &&
      table[static_cast<size_t>(Place(shape.rows - decoding).high)].seen > 0) {
    shape.rows -= decoding;
    Piggybacked& piggybacked = piggybacked_[static_cast<size_t>(BinOf(decoding))];
    const double more = seconds - Predict(shape, threads), seen = std::max(more, 0.0);
    piggybacked.Learn(seen);
    if (more >= 0) return;  // else the chunk alone was thought dearer than it is
  }
  const Between at = Place(shape.rows);
  Bin &low = table[static_cast<size_t>(at.low)], &high = table[static_cast<size_t>(at.high)];
  const double attention = attended_seconds_ * static_cast<double>(shape.attended);
  const double predicted = Predict(shape, threads) - attention;
  // In proportion: a step four times too slow was somebody else's doing and moves the estimate no further
  // than that.
  const double ratio =
      std::clamp(std::max(seconds - attention, seconds / 4) / std::max(predicted, 1e-9), 0.25, 4.0);
  if (high.seen == 0 && low.seen == 0) {  // nothing is known around here: the guesses beyond follow
    for (int b = at.low; b < kBins && (b <= at.high || table[static_cast<size_t>(b)].seen == 0); ++b)
      table[static_cast<size_t>(b)].base *= ratio;
  } else {
    // Each end moves by its part in the prediction.
    const double a = at.low == at.high ? 0 : 1 - at.share, b = at.low == at.high ? 1 : at.share,
                 most = std::max(a, b);
    // What was stored counts as one. Much faster than was thought is believed at once: neighbours only slow
    // steps down.
    const double weight = high.seen <= 2 || ratio < 0.7 ? 0.7 : kForget;
    low.base *= std::pow(ratio, weight * a / most);
    high.base *= std::pow(ratio, weight * b / most);
  }
  // More rows never take less time.
  for (auto b = static_cast<size_t>(at.high); b > 0; --b)
    table[b - 1].base = std::min(table[b - 1].base, table[b].base);
  for (auto b = static_cast<size_t>(at.low); b + 1 < table.size(); ++b)
    table[b + 1].base = std::max(table[b + 1].base, table[b].base);
  ++high.seen;
  if (max_threads_ > 1) {
    high.since_other = 0;
    ++tables_[threads <= 1 ? 1 : 0][static_cast<size_t>(at.high)].since_other;
  }
}

int CostTable::ChooseThreads(const StepShape& shape) const {
  if (max_threads_ == 1) return 1;
  const auto bin = static_cast<size_t>(BinOf(shape.rows));
  const Bin& one = tables_[0][bin];
  const Bin& all = tables_[1][bin];
  if (shape.rows >= machine_.all_threads_rows) return max_threads_;
  if (all.seen < 2) return max_threads_;
  if (one.seen < 2) return 1;
  const bool one_is_better = one.base < all.base;
  const int64_t unseen = one_is_better ? all.since_other : one.since_other;
  const double gap = one_is_better ? all.base / one.base : one.base / all.base;
  // The worse it was, the rarer it is tried again: a trial costs (gap − 1) of a step.
  const auto pause = static_cast<int64_t>(64 * std::clamp(gap, 1.0, 8.0));
  if (unseen > pause) return one_is_better ? max_threads_ : 1;
  return one_is_better ? 1 : max_threads_;
}

CostTable::Alternation CostTable::ChooseAlternate(const StepShape& decoding, int threads,
                                                  bool may_try) const {
  const Piggybacked& piggybacked = piggybacked_[static_cast<size_t>(BinOf(decoding.rows))];
  Alternation choice;
  if (piggybacked.seen < 2) return choice;
  choice.counts = true;
  choice.trial = may_try && piggybacked.since_other + 1 >= kTrial;
  choice.alternate = (Predict(decoding, threads) < piggybacked.seconds) != choice.trial;
  return choice;
}

void CostTable::Chose(const StepShape& decoding, const Alternation& choice) {
  if (!choice.counts) return;
  int64_t& since_other = piggybacked_[static_cast<size_t>(BinOf(decoding.rows))].since_other;
  since_other = choice.trial ? 0 : since_other + 1;
}

int32_t CostTable::RowsWithin(StepShape shape, int64_t attended_per_row, double budget, int32_t least,
                              int32_t most, int threads) const {
  int32_t low = std::min(least, most), high = most;
  const auto fits = [&](int32_t rows) {
    StepShape with = shape;
    with.rows += rows;
    with.attended += attended_per_row * rows + static_cast<int64_t>(rows) * rows / 2;
    return Predict(with, threads) <= budget;
  };
  if (!fits(low)) return low;
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

namespace {

// The file may hold anything.
double NumberOf(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : -1;
}

template <class Entries, class Seconds>
nlohmann::json ListOf(const Entries& entries, Seconds seconds) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& one : entries) list.push_back({{"seconds", one.*seconds}, {"seen", one.seen}});
  return list;
}

// What was stored counts as one observation; entries that were never seen are guesses from those that were.
template <class Entries, class Seconds>
Status ReadList(const nlohmann::json& list, Seconds seconds, double least, Entries* entries) {
  if (!list.is_array() || list.size() != entries->size())
    return Status::Corrupt("a table of step costs is cut off");
  for (size_t i = 0; i < entries->size(); ++i) {
    if (!list[i].is_object()) return Status::Corrupt("a table of step costs holds something else");
    const double stored = NumberOf(list[i], "seconds");
    if (!(stored >= least && stored < 3600)) return Status::Corrupt("a step cost is out of range");
    (*entries)[i].*seconds = stored;
    (*entries)[i].seen = NumberOf(list[i], "seen") > 0 ? 1 : 0;
  }
  return Status::Ok();
}

}  // namespace

std::string CostTable::ToJson() const {
  nlohmann::json json = {{"version", 3}, {"threads", max_threads_}, {"attended_seconds", attended_seconds_}};
  for (const auto& table : tables_) json["tables"].push_back(ListOf(table, &Bin::base));
  json["piggybacked"] = ListOf(piggybacked_, &Piggybacked::seconds);
  json["decoding"] = ListOf(decoding_, &Piggybacked::seconds);
  return json.dump(1);
}

Status CostTable::FromJson(const std::string& text) {
  const nlohmann::json json = ParseJson(text);
  if (!json.is_object() || NumberOf(json, "version") != 3 || NumberOf(json, "threads") != max_threads_ ||
      !json.contains("tables") || !json["tables"].is_array() || json["tables"].size() != 2)
    return Status::Corrupt("this is not a table of step costs for " + std::to_string(max_threads_) +
                           " threads");
  CostTable read = *this;
  for (size_t t = 0; t < 2; ++t)
    HEADRACE_TRY(
        ReadList(json["tables"][t], &Bin::base, std::numeric_limits<double>::min(), &read.tables_[t]));
  HEADRACE_TRY(
      ReadList(json.value("piggybacked", nlohmann::json()), &Piggybacked::seconds, 0, &read.piggybacked_));
  HEADRACE_TRY(ReadList(json.value("decoding", nlohmann::json()), &Piggybacked::seconds, 0, &read.decoding_));
  read.attended_seconds_ = NumberOf(json, "attended_seconds");
  if (!(read.attended_seconds_ >= 0 && read.attended_seconds_ < 1))
    return Status::Corrupt("a step cost is out of range");
  *this = read;
  return Status::Ok();
}

}  // namespace headrace::engine
