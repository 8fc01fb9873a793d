// Embedder: vectors of texts, or a reranker's scores of pairs, for many callers. What arrives while a step
// runs goes together into the next; keys take turns, a text at a time (embed_queue.h), so that a long list of
// one does not keep the others.
//
// Many texts are shared out among lanes, each a context with threads of its own: they never wait for each
// other inside a step, as the threads of one context do after every operation. A single text gets all
// threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/task_pool.h"
#include "engine/embed_queue.h"
#include "engine/lease.h"
#include "model/encoder.h"

namespace headrace::engine {

struct EmbedOptions {
  bool normalise = true;  // to length 1; not of scores
  int32_t cut = 0;        // longer texts are cut to so many tokens; -1: to what the model reads; 0: refused
  std::string key = {};   // whose turn it is among others
  double timeout = 0;     // seconds to the end; 0: none
};

struct Embeddings {
  int32_t width = 0;
  int64_t tokens = 0;
  std::vector<float> values;   // [texts, width]; of a reranker each row begins with the pair's score
  double queue_seconds = 0;    // from submission to its first step
  double compute_seconds = 0;  // from there to its end
};

class Embedder {
 public:
  // Takes what a call has come to: Timeout where it was not done in time, Cancelled where the embedder ends
  // before it. On one of the embedder's threads: it must be quick.
  using Done = std::function<void(Result<Embeddings>)>;
  using Call = EmbedCall;

  static Result<std::unique_ptr<Embedder>> Start(std::shared_ptr<const model::Model> model,
                                                 const model::EncoderOptions& options = {},
                                                 std::shared_ptr<ComputeLease> lease = nullptr);
  ~Embedder();  // what waits ends with an error

  // Queues texts that are tokens; the vectors come in their order. What is wrong with the texts is told here,
  // and `done` is not called then. Thread-safe.
  Result<std::shared_ptr<Call>> Submit(std::vector<std::vector<model::Token>> texts,
                                       const EmbedOptions& options, Done done);
  // Nobody wants the rest: what is not computed yet never is. `done` is not called any more once this
  // returns, unless it runs already.
  void Cancel(const std::shared_ptr<Call>& call);

  // The same for who waits for it. Empty texts are embedded as the model's empty text. A reranker, which
  // reads pairs, refuses texts.
  Result<Embeddings> Embed(const std::vector<std::string>& texts, const EmbedOptions& options = {});
  Result<Embeddings> EmbedTokens(std::vector<std::vector<model::Token>> texts,
                                 const EmbedOptions& options = {});

  int32_t width() const { return whole_->width(); }
  int32_t max_tokens() const { return whole_->max_tokens(); }  // of a text
  void SetWeight(const std::string& key, double weight);
  size_t waiting() const;  // texts

 private:
  Embedder() = default;
  void Run();

  void Compute(model::Encoder* encoder, const EmbedStep& step);
  void ComputeAll(const std::vector<EmbedStep>& steps);
  void EndLate();
  void EndAll(const Status& why);
  void End(const std::shared_ptr<Call>& call, const Status& status);
  Status OpenLanes();

  std::shared_ptr<const model::Model> model_;
  model::EncoderOptions options_;
  std::unique_ptr<model::Encoder> whole_;               // all threads
  std::vector<std::unique_ptr<model::Encoder>> lanes_;  // opened when there are texts for them
  std::unique_ptr<TaskPool> lane_threads_;
  size_t lane_count_ = 1;
  int32_t lane_rows_ = 0;  // tokens of a lane's step at most
  std::shared_ptr<ComputeLease> lease_;

  mutable std::mutex mutex_;  // of what follows, and of calls
  std::condition_variable wake_;
  EmbedQueue queue_;
  bool any_ended_ = false;  // a call ended while texts of it wait
  bool any_deadline_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace headrace::engine
