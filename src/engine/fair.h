// Fair: whose request begins next. Deficit round robin over keys (Shreedhar and Varghese 1995), the cost in
// measured seconds of compute: a key that has used its share waits for the others; one that is alone never
// waits. Priorities come before fairness; within a key, requests keep their order.
//
// Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace headrace::engine {

class Fair {
 public:
  // `quantum`: seconds of compute that a key of weight 1 may use in a round.
  explicit Fair(double quantum) : quantum_(quantum) {}

  struct Entry {
    uint64_t id = 0;
    int priority = 0;  // higher begins earlier
    double cost = 0;   // expected seconds
  };
  void Push(const std::string& key, const Entry& entry);
  // Back to the front of its key's queue: a preempted request.
  void PushFront(const std::string& key, const Entry& entry);
  // The next request by priority, then by deficit. `may(id)` says whether it can begin now; one that cannot
  // is passed over without losing its place or its key's credit.
  // Those that `among(id)` leaves out are not looked at.
  template <typename May, typename Among>
  std::optional<uint64_t> Pop(May may, Among among);
  template <typename May>
  std::optional<uint64_t> Pop(May may) {
    return Pop(may, [](uint64_t) { return true; });
  }
  bool Remove(const std::string& key, uint64_t id);
  // What a request really cost beyond its estimate is charged to its key.
  void Charge(const std::string& key, double seconds);
  void SetWeight(const std::string& key, double weight) { keys_[key].weight = weight; }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  struct Key {
    std::deque<Entry> queue;
    double deficit = 0;
    double weight = 1;
  };
  static constexpr int kAsked = 16;
  std::map<std::string, Key> keys_;
  std::vector<std::string> round_;  // keys with requests, in order of their first arrival
  size_t at_ = 0;
  size_t size_ = 0;
  double quantum_;
};

template <typename May, typename Among>
std::optional<uint64_t> Fair::Pop(May may, Among among) {
  if (size_ == 0) return std::nullopt;
  // Which requests could begin at all, at the best priority among them.
  int best = 0;
  bool any = false;
  std::map<std::string, size_t> candidate;  // key → index in its queue
  for (const std::string& name : round_) {
    Key& key = keys_[name];
    int asked = 0;  // a long queue is not asked through at every step
    for (size_t i = 0; i < key.queue.size(); ++i) {
      if (any && key.queue[i].priority < best) continue;
      if (!among(key.queue[i].id)) continue;
      if (++asked > kAsked) break;
      if (!may(key.queue[i].id)) continue;
      if (!any || key.queue[i].priority > best) {
        best = key.queue[i].priority;
        candidate.clear();
        any = true;
      }
      candidate.emplace(name, i);
      break;
    }
  }
  if (!any) return std::nullopt;
  // Rounds: each visit gives a key its quantum; the first whose deficit covers its request begins. Debts are
  // finite, so this ends; a long debt is paid in one stride instead of many rounds.
  for (;;) {
    double rounds = -1;
    for (size_t i = 0; i < round_.size(); ++i) {
      const size_t index = (at_ + i) % round_.size();
      const auto found = candidate.find(round_[index]);
      if (found == candidate.end()) continue;
      Key& key = keys_[round_[index]];
      const Entry entry = key.queue[found->second];
      if (key.deficit >= entry.cost || candidate.size() == 1) {
        key.deficit -= entry.cost;
        if (candidate.size() == 1 && key.deficit < -quantum_ * key.weight)
          key.deficit = -quantum_ * key.weight;
        key.queue.erase(key.queue.begin() + static_cast<std::ptrdiff_t>(found->second));
        --size_;
        at_ = index;
        if (key.queue.empty()) {
          round_.erase(round_.begin() + static_cast<std::ptrdiff_t>(index));
          if (key.deficit > 0) key.deficit = 0;
          if (at_ >= round_.size()) at_ = 0;
        }
        return entry.id;
      }
      const double need = (entry.cost - key.deficit) / (quantum_ * key.weight);
      rounds = rounds < 0 ? need : (need < rounds ? need : rounds);
    }
    for (const auto& [name, index] : candidate) {
      Key& key = keys_[name];
      key.deficit += (rounds < 1 ? 1 : rounds) * quantum_ * key.weight;
    }
    at_ = (at_ + 1) % round_.size();
  }
}

}  // namespace headrace::engine
