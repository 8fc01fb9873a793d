// CostTable: what a step takes, learnt from the steps themselves. A step's time depends on its rows (weights
// are read once, then arithmetic counts), on its outputs (a vocabulary of 262k makes each one dear), and on
// the cached tokens that its rows attend to; counting tokens is not enough. Kept per number of threads, so
// that the engine can see by itself that one thread is better for one row, or that a neighbour took a core.
//
// Pure; not thread-safe. Stored as JSON between runs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/machine_profile.h"

namespace headrace::engine {

struct StepShape {
  int32_t rows = 0;         // tokens computed
  int32_t outputs = 0;      // rows that want logits
  int64_t attended = 0;     // sum over rows of cached tokens before them
  int32_t piggybacked = 0;  // of the rows: those that decode in a step that prefills as well
};

class CostTable {
 public:
  // The estimate before anything was measured: `row_seconds` for the first row, of a model whose weights are
  // read in that time.
  CostTable(int max_threads, double row_seconds, const MachineProfile& machine = {});

  // Seconds that a step is expected to take.
  double Predict(const StepShape& shape, int threads) const;
  // Seconds of one row of a prompt among others, in a step of the usual size.
  double PredictPrefillRow(int threads) const;
  // … a step in which so many decode and nobody prefills: each row has an output, which may be most of its
  // cost.
  double PredictDecoding(int32_t rows, int threads) const;
  void Observe(StepShape shape, int threads, double seconds);

  // The number of threads to run such a step with: the fastest known, every now and then (one step in 64 of
  // its size) another, so that what is known stays true.
  int ChooseThreads(const StepShape& shape) const;

  // Whether rows that decode are better computed in a step of their own than in a prefill chunk. Where
  // weights are what a step waits for they ride along for nothing; where arithmetic is, they may cost the
  // chunk more than their own step takes (measured on 2 cores: 4 rows 80 ms in a chunk, 40 ms in a step of
  // their own). Once in 32 times it says the other, as a trial, if that `may_try` be.
  struct Alternation {
    bool alternate = false;
    bool counts = false;  // there were figures to choose by
    bool trial = false;
  };
  Alternation ChooseAlternate(const StepShape& decoding, int threads, bool may_try) const;
  // A step was planned by this choice.
  void Chose(const StepShape& decoding, const Alternation& choice);

  // The most prefill rows that may join `shape` within `budget` seconds; at least `least`.
  int32_t RowsWithin(StepShape shape, int64_t attended_per_row, double budget, int32_t least, int32_t most,
                     int threads) const;

  std::string ToJson() const;
  Status FromJson(const std::string& text);

 private:
  static constexpr int kBins = 11;  // rows 1, 2, 3-4, 5-8, …, 513-
  struct Bin {
    double base = 0;  // seconds of a step of that many rows and outputs, without attention
    int64_t seen = 0;
    int64_t since_other = 0;
  };
  struct Between {
    int low = 0, high = 0;
    double share = 0, scale = 1;
  };
  // What decoding rows added to chunks, by their number.
  struct Piggybacked {
    double seconds = 0;
    int64_t seen = 0;
    int64_t since_other = 0;
    void Learn(double newest);
  };
  void LearnAttention(const StepShape& shape, double seconds);
  static int BinOf(int32_t rows);
  static Between Place(int32_t rows);
  std::array<Bin, kBins>& Table(int threads) { return tables_[threads <= 1 ? 0 : 1]; }
  const std::array<Bin, kBins>& Table(int threads) const { return tables_[threads <= 1 ? 0 : 1]; }

  MachineProfile machine_;
  int max_threads_;
  double attended_seconds_;  // of one row attending to one cached token
  struct Run {               // of chunks of equal rows: their number, means of attended tokens and seconds
    int32_t rows = 0;
    int32_t count = 0;
    double x = 0, y = 0;
  } run_;
  double attended_xx_ = 0, attended_xy_ = 0;      // sums of squares and products around the means
  std::array<std::array<Bin, kBins>, 2> tables_;  // one thread, all threads
  std::array<Piggybacked, kBins> piggybacked_;
  std::array<Piggybacked, kBins> decoding_;  // steps of decoding rows alone, as if their bins were full
};

}  // namespace headrace::engine
