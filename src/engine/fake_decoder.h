// FakeDecoder: a model made of a hash, for the simulator and tests. Its cache has real cells with reference
// counts; each cell holds the hash of everything before it, so a wrong share, a lost token or a stale cell
// changes every later token. Logits are a function of that hash alone, so the right answer is known without
// an engine.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "engine/vocabulary.h"
#include "model/decoder.h"

namespace headrace::engine {

class FakeDecoder : public model::Decoder {
 public:
  FakeDecoder(const model::DecoderFacts& facts, double* clock, uint64_t seed)
      : facts_(facts),
        clock_(clock),
        random_(seed),
        paths_(static_cast<size_t>(facts.paths)),
        lost_(paths_.size(), 0) {
    cells_.resize(static_cast<size_t>(facts.cells));
    for (int i = facts.cells - 1; i >= 0; --i) free_.push_back(i);
  }

  static uint64_t Mix(uint64_t hash, model::Token token, int adapter) {
    hash ^= (static_cast<uint64_t>(token) + 1) * 0x9E3779B97F4A7C15ULL +
            static_cast<uint64_t>(adapter + 2) * 0xC2B2AE3D27D4EB4FULL;
    hash *= 0xFF51AFD7ED558CCDULL;
    return hash ^ (hash >> 29);
  }
  static void LogitsOf(uint64_t hash, std::vector<float>* logits) {
    for (size_t t = 0; t < logits->size(); ++t) {
      const uint64_t h = Mix(hash, static_cast<model::Token>(t), 99);
      (*logits)[t] =
          static_cast<float>(h >> 40) * 0x1.0p-22F - (t == 0 ? 1.5F : 0.0F);  // token 0 ends, seldom
    }
  }

  const model::DecoderFacts& facts() const override { return facts_; }

  Status Decode(std::span<const model::Row> rows, int) override {
    HEADRACE_CHECK(!rows.empty() && static_cast<int32_t>(rows.size()) <= facts_.max_rows);
    if (fail_next > 0 && --fail_next == 0) return Status::Io("a false fault");
    if (facts_.unified && rows.size() > free_.size()) return Status::Limit("no cells");
    outputs_.assign(rows.size(), 0);
    for (size_t i = 0; i < rows.size(); ++i) {
      const model::Row& row = rows[i];
      auto& path = paths_[static_cast<size_t>(row.path)];
      HEADRACE_CHECK(row.position == static_cast<int32_t>(path.size()));  // consecutive
      HEADRACE_CHECK(row.position < facts_.context);
      Note(1, row.path, row.position, row.token, row.output ? 1 : 0);
      uint64_t before = path.empty() ? 0 : HashAt(path.back());
      // What the window still needs must be there.
      if (facts_.window > 0 &&
          lost_[static_cast<size_t>(row.path)] > std::max(0, row.position - facts_.window))
        before ^= 0xBAD;
      const uint64_t hash = Mix(before, row.token, row.adapter);
      path.push_back(NewCell(hash));
      outputs_[i] = row.output ? (loops ? Mix(7, row.token, row.adapter) : hash) : 0;
      HEADRACE_CHECK(facts_.mixes_adapters || row.adapter == rows.front().adapter);
    }
    Note(2, static_cast<int64_t>(rows.size()));
    ++steps;
    computed += static_cast<int64_t>(rows.size());
    *clock_ += 1e-3 * (1 + 0.1 * static_cast<double>(rows.size())) *
               (0.8 + 0.4 * std::uniform_real_distribution<>()(random_));
    return Status::Ok();
  }

  std::span<const float> Logits(int index) override {
    HEADRACE_CHECK(outputs_[static_cast<size_t>(index)] != 0);
    logits_.resize(static_cast<size_t>(facts_.vocabulary));
    LogitsOf(outputs_[static_cast<size_t>(index)], &logits_);
    return logits_;
  }

  void Share(int from, int to, int32_t length) override {
    auto& source = paths_[static_cast<size_t>(from)];
    auto& target = paths_[static_cast<size_t>(to)];
    HEADRACE_CHECK(target.empty() && length <= static_cast<int32_t>(source.size()));
    HEADRACE_CHECK(facts_.can_truncate || length == static_cast<int32_t>(source.size()));
    target.assign(source.begin(), source.begin() + length);
    Note(3, from, to, length);
    if (facts_.unified)
      for (const int cell : target) ++cells_[static_cast<size_t>(cell)].holders;
    lost_[static_cast<size_t>(to)] = lost_[static_cast<size_t>(from)];
  }

  void Truncate(int path, int32_t length) override {
    auto& cells = paths_[static_cast<size_t>(path)];
    HEADRACE_CHECK(length <= static_cast<int32_t>(cells.size()));
    HEADRACE_CHECK(facts_.can_truncate || length == 0 || length == static_cast<int32_t>(cells.size()));
    Note(4, path, length);
    while (static_cast<int32_t>(cells.size()) > length) {
      Drop(cells.back());
      cells.pop_back();
    }
    if (length == 0) lost_[static_cast<size_t>(path)] = 0;
  }

  int32_t FirstPosition(int path) override {
    return paths_[static_cast<size_t>(path)].empty() ? -1 : lost_[static_cast<size_t>(path)];
  }

  Result<std::vector<std::byte>> Save(int path) override {
    if (std::uniform_int_distribution<>(0, 9)(random_) == 0) return Status::Io("a save that failed");
    const auto& cells = paths_[static_cast<size_t>(path)];
    std::vector<std::byte> bytes(cells.size() * sizeof(uint64_t) + sizeof(int32_t));
    for (size_t i = 0; i < cells.size(); ++i) {
      const uint64_t hash = HashAt(cells[i]);
      std::memcpy(bytes.data() + i * sizeof hash, &hash, sizeof hash);
    }
    int32_t lost = lost_[static_cast<size_t>(path)];
    if (facts_.window > 0) lost = std::max(lost, static_cast<int32_t>(cells.size()) - facts_.window);
    std::memcpy(bytes.data() + cells.size() * sizeof(uint64_t), &lost, sizeof lost);
    Note(5, path, static_cast<int64_t>(cells.size()));
    return bytes;
  }

  Status Restore(int path, std::span<const std::byte> bytes) override {
    const size_t count = (bytes.size() - sizeof(int32_t)) / sizeof(uint64_t);
    HEADRACE_CHECK(paths_[static_cast<size_t>(path)].empty());
    Note(6, path, static_cast<int64_t>(count));
    if (facts_.unified && count > free_.size()) return Status::Limit("no cells");
    for (size_t i = 0; i < count; ++i) {
      uint64_t hash = 0;
      std::memcpy(&hash, bytes.data() + i * sizeof hash, sizeof hash);
      paths_[static_cast<size_t>(path)].push_back(NewCell(hash));
    }
    std::memcpy(&lost_[static_cast<size_t>(path)], bytes.data() + count * sizeof(uint64_t), sizeof(int32_t));
    return Status::Ok();
  }

  int32_t LengthOf(int path) const { return static_cast<int32_t>(paths_[static_cast<size_t>(path)].size()); }
  uint64_t LastHash(int path) const { return HashAt(paths_[static_cast<size_t>(path)].back()); }
  int64_t used_cells() const { return facts_.cells - static_cast<int64_t>(free_.size()); }

  int64_t steps = 0, computed = 0;
  bool loops =
      false;  // the next token depends on the last one alone: greedy answers run in circles, drafts are right
  int fail_next = 0;  // the n-th Decode from now fails
  uint64_t decisions =
      0;  // a digest of all calls that changed something: equal where two engines decide alike

 private:
  void Note(int what, int64_t a, int64_t b = 0, int64_t c = 0, int64_t d = 0) {
    for (const int64_t number : {static_cast<int64_t>(what), a, b, c, d})
      decisions = (decisions ^ static_cast<uint64_t>(number)) * 0x9E3779B97F4A7C15ULL ^ (decisions >> 31);
  }
  struct Cell {
    int holders = 0;
    uint64_t hash = 0;
  };
  // Apart from a unified cache, a path's entries are the hashes themselves.
  int NewCell(uint64_t hash) {
    if (!facts_.unified) {
      own_.push_back(hash);
      return static_cast<int>(own_.size()) - 1;
    }
    const int cell = free_.back();
    free_.pop_back();
    cells_[static_cast<size_t>(cell)] = {1, hash};
    return cell;
  }
  uint64_t HashAt(int cell) const {
    return facts_.unified ? cells_[static_cast<size_t>(cell)].hash : own_[static_cast<size_t>(cell)];
  }
  void Drop(int cell) {
    if (!facts_.unified) return;
    if (--cells_[static_cast<size_t>(cell)].holders == 0) {
      cells_[static_cast<size_t>(cell)].hash = 0xDEAD;
      free_.push_back(cell);
    }
  }

  model::DecoderFacts facts_;
  double* clock_;
  std::mt19937_64 random_;
  std::vector<std::vector<int>> paths_;
  std::vector<int32_t> lost_;
  std::vector<Cell> cells_;
  std::vector<int> free_;
  std::vector<uint64_t> own_, outputs_;
  std::vector<float> logits_;
};

class FakeVocabulary : public Vocabulary {
 public:
  explicit FakeVocabulary(int32_t size) {
    for (int32_t t = 0; t < size; ++t)
      pieces_.push_back(t == 0 ? ""
                               : std::string(1, static_cast<char>('A' + t % 26)) + (t % 3 == 0 ? " " : ""));
  }
  std::string_view Piece(model::Token token) const override { return pieces_[static_cast<size_t>(token)]; }
  bool IsEnd(model::Token token) const override { return token == 0; }
  std::vector<model::Token> Tokenize(std::string_view) const override { return {}; }

 private:
  std::vector<std::string> pieces_;
};

}  // namespace headrace::engine
