// engine: many requests through one model. Begin here: Engine::Start, Submit, and read the answer from its
// Stream.
//
//   HEADRACE_ASSIGN(auto engine, Engine::Start(model, {}));
//   HEADRACE_ASSIGN(std::shared_ptr<Stream> stream, engine->Submit(request));
//   while (auto delta = stream->Next()) std::cout << delta->text;
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/core.h"
#include "engine/grammar.h"
#include "engine/grammar_queue.h"
#include "engine/lease.h"
#include "engine/request.h"
#include "model/model.h"

namespace headrace::engine {

struct EngineOptions {
  CoreOptions core;
  GrammarLimits grammar;
  model::DecoderOptions decoder;
  // Folder for the measured step costs, "" to keep none; default: ~/.cache/headrace/costs.
  std::optional<std::string> cost_folder;
  // Bytes per second that so many threads read from memory: what the first steps of a model are planned by
  // that has no costs stored yet. Null: measured (MeasureMemorySpeed, about 40 ms).
  std::function<double(int threads)> memory_speed;
  std::shared_ptr<ComputeLease> lease;  // shared by all that compute in this process; made where null
  // The hash of the model's file. Engines of the same weights that share a host cache (CoreOptions::host)
  // find each other's saved prefixes. "": not known, nobody else's.
  std::string weights_hash;
};

// Deltas of one request, from the compute thread to one reader. Neither waits for the other's lock: a delta
// is one node pushed onto an atomic list.
class Stream {
 public:
  ~Stream();
  // The next piece; waits for it. Empty after the last one, which has `finish`.
  std::optional<Delta> Next();
  // The next piece if it is there already.
  std::optional<Delta> TryNext();
  // Stops the answer within one step; Next gives its last delta. From any thread.
  void Cancel() { job_->cancel.Stop(); }
  uint64_t id() const { return job_->id; }

 private:
  friend class Engine;
  struct Node {
    Delta delta;
    Node* next = nullptr;
  };
  bool Push(Delta&& delta);  // true: nothing lay there before
  bool TakeAll();

  std::shared_ptr<Job> job_;
  std::function<void()> news_;
  std::atomic<Node*> head_{nullptr};
  std::atomic<uint32_t> pushed_{0};
  Node* ready_ = nullptr;  // the reader's, in order
  bool ended_ = false;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> Start(std::shared_ptr<const model::Model> model,
                                               EngineOptions options);
  // For tests: any decoder and vocabulary; null: no grammars.
  static std::unique_ptr<Engine> StartWith(std::unique_ptr<model::Decoder> decoder,
                                           std::unique_ptr<Vocabulary> vocabulary, EngineOptions options,
                                           const CostTable& costs, GrammarQueue::Compile compile = nullptr);
  ~Engine();
  // Requests that run or wait end with an error, later ones are refused. Once; the destructor does it too.
  void Stop();

  // Queues a request. Errors in it are given here where they can be seen at once (sampling, stops), and by
  // the stream otherwise. Thread-safe. `news` is called after a step that laid a piece there where none was:
  // on the compute thread, so it must be quick, or before Submit returns.
  Result<std::shared_ptr<Stream>> Submit(Request request, std::function<void()> news = {});
  CoreStats stats() const;
  void SetWeight(const std::string& key, double weight);

 private:
  Engine() = default;
  void Run();
  void Enqueue(std::shared_ptr<Job> job);
  void Tell(const std::shared_ptr<Stream>& stream);
  void TellAll();
  Status Check(const Request& request) const;
  std::shared_ptr<const DryBreakers> BreakersOf(const std::vector<std::string>& breakers);

  EngineOptions options_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<Vocabulary> vocabulary_;
  std::shared_ptr<Grammars> grammars_;  // null in tests
  std::unique_ptr<Core> core_;
  std::string cost_file_;

  mutable std::mutex mutex_;  // of what follows; taken per request, not per token
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Job>> inbox_;
  std::map<std::string, double> weights_;  // that were changed
  std::map<std::vector<std::string>, std::shared_ptr<const DryBreakers>> breakers_;
  CoreStats stats_;
  bool stopping_ = false;
  std::atomic<uint64_t> next_id_{1};
  std::atomic<bool> news_{false};
  std::atomic<std::thread::id> compute_id_;
  std::vector<std::shared_ptr<Stream>> to_tell_;  // the compute thread's
  std::thread compute_;
  std::unique_ptr<GrammarQueue> grammar_queue_;
};

}  // namespace headrace::engine
