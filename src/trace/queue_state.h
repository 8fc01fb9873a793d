// queue_state: who has labelled, skipped or claimed what of an annotation queue: what its log comes to. Pure:
// entries in, state out (queue_log.h reads and writes them).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace headrace::trace {

// An entry of the log is {"session", "who", "stored", "do": [{"op", …}, …]}. Its operations, in order:
//   claim ITEM          the session works on it
//   release ITEM        no longer; with "session", another one of the same person
//   label ITEM, row     the claim becomes a label, or a label of `who` another; `row` is its score
//   skip ITEM, row      the claim goes, and whoever skipped gets the item no more
//   undo ITEM, row      the last label or skip of `who` becomes a claim again; `row` withdraws the score
//   lapse SESSION       it has died: its claims go
//   end                 it is over, and all of its rows are stored
// `stored`: how many of the session's rows are in a spool or the table for certain.
struct QueueState {
  struct Item {
    std::set<std::string> labels;               // by whom
    std::map<std::string, std::string> claims;  // session: who
    std::set<std::string> skips;
    bool Saw(const std::string& who) const;
    int64_t places() const { return static_cast<int64_t>(labels.size() + claims.size()); }
  };
  struct Session {
    std::string who;
    int64_t stored = 0;
    std::vector<nlohmann::json> rows;  // that may not be stored yet
  };
  struct Done {
    int64_t item = 0;
    int64_t time = 0;  // of its row
    bool skipped = false;
  };

  int64_t number = 0;                             // of the last entry, from 1
  std::map<int64_t, Item> items;                  // those that somebody has had
  std::map<std::string, Session> sessions;        // that are not over
  std::map<std::string, std::vector<Done>> done;  // by whom, in order

  // Invalid for what is no entry; the state is then not to be used.
  Status Apply(const nlohmann::json& entry);
  const Item& At(int64_t item) const;
  // The first item that `who` has not had and that has a place left, of `items` items with `overlap` places.
  std::optional<int64_t> Free(const std::string& who, int64_t items, int64_t overlap) const;
  // Items that `who` has not had and that lack labels: some may be others' at present.
  int64_t Left(const std::string& who, int64_t items, int64_t overlap) const;
  std::optional<int64_t> HeldBy(const std::string& session) const;
  // The session of this person that has the item; "" for none.
  std::string SessionWith(int64_t item, const std::string& who) const;
  int64_t labels() const;

  nlohmann::json ToJson() const;
  static Result<QueueState> FromJson(const nlohmann::json& json);
};

}  // namespace headrace::trace
