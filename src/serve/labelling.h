// labelling: the people who label queues through this server: an annotator for each of them and each queue.
// One who says nothing for kIdleSeconds is let go: their item goes to others.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "serve/recorder.h"
#include "trace/annotator.h"

namespace headrace::serve {

class Labelling {
 public:
  static constexpr double kIdleSeconds = 600;

  Labelling(std::shared_ptr<table::Catalog> catalog, Recorder* recorder)
      : catalog_(std::move(catalog)), recorder_(recorder) {}
  ~Labelling();  // what people have is given back

  // Whether there is a catalog that has queues.
  bool on() const { return catalog_ != nullptr && recorder_->on(); }
  Result<std::vector<trace::Queue>> Queues() const { return trace::ListQueues(*catalog_); }
  // NotFound where there is no such queue.
  Result<std::shared_ptr<trace::Annotator>> For(const std::string& queue, const std::string& who);

 private:
  struct Seat {
    std::shared_ptr<trace::Annotator> annotator;
    double used = 0;  // monotonic seconds
  };
  std::vector<std::shared_ptr<trace::Annotator>> TakeIdle();

  std::shared_ptr<table::Catalog> catalog_;
  Recorder* recorder_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Seat> seats_;  // by the queue's id, and who
};

}  // namespace headrace::serve
