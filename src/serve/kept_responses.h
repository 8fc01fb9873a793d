// kept_responses: answers of /v1/responses that may be asked for again (GET, DELETE, previous_response_id).
// They are rows of `traces`; the newest lie here too, so that a conversation need not look for its last turn.
// A response is its key's alone, and none is kept where the client said `store: false`, where texts are not
// recorded, or without a catalog.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "serve/recorder.h"

namespace headrace::serve {

struct KeptResponse {
  std::string key;       // its id
  std::string input;     // {"input": …} with all items, those of earlier turns too
  std::string response;  // as it was told
};

class KeptResponses {
 public:
  KeptResponses(std::shared_ptr<table::Catalog> catalog, Recorder* recorder)
      : catalog_(std::move(catalog)), recorder_(recorder) {}

  // Whether any is kept here.
  bool on() const { return recorder_->on() && recorder_->mode() == RecordMode::kFull; }
  void Put(const std::string& row_id, KeptResponse response);
  // Of this key. Looks into tables where it is not one of the newest: this may take seconds. Nothing where
  // there is none, or where it was deleted.
  Result<std::optional<KeptResponse>> Find(const std::string& row_id, const std::string& key);
  // It is not told again; its row stays with whoever runs the server. False where there is none.
  Result<bool> Delete(const std::string& row_id, const std::string& key);

 private:
  void Drop(std::list<std::string>::iterator at);

  struct Entry {
    KeptResponse response;
    std::list<std::string>::iterator place;
  };
  std::shared_ptr<table::Catalog> catalog_;
  Recorder* recorder_;
  std::mutex mutex_;
  std::map<std::string, Entry> newest_;
  std::list<std::string> order_;  // the newest last
  size_t bytes_ = 0;
};

}  // namespace headrace::serve
