// live: what lies in the spools of other machines, where a catalog is in a bucket. A viewer says that it
// looks at a table (live/want/<table>); while somebody does, the committer of each machine puts what its
// table's tail is (live/tail/<table>/<committer>), every 5 s at most. Where nobody looks, nothing is put. A
// local folder has none of this: there viewers read the spools. The page of its format is
// docs/format/live.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/catalog.h"

namespace headrace::trace {

inline constexpr double kWantSeconds = 30;  // a want counts for so long after it was put
inline constexpr double kLiveSeconds = 5;   // between looks, and between a machine's tails of one table

// The viewer's part, of one of SpoolTables() whose newest version is `view`: puts the want, unless this
// process has lately, and reads what the committers other than `own` have put on top of this very version.
// What cannot be read is left out, and told on stderr once. Nothing where the catalog is on a local disk.
Result<std::vector<std::shared_ptr<arrow::RecordBatch>>> LiveRows(const table::Catalog& catalog, size_t table,
                                                                  const table::View& view,
                                                                  const std::string& own);

// The committer's part. Not thread-safe: no commit may run meanwhile.
class LiveTails {
 public:
  LiveTails(std::shared_ptr<table::Catalog> catalog, std::string committer)
      : catalog_(std::move(catalog)), committer_(std::move(committer)) {}

  // To be called about once a second; asks the store every kLiveSeconds, and only while there is anything to
  // tell. `now`: monotonic seconds. `waiting`: whether anything is in the spools that no table has.
  Status Look(double now, bool waiting);
  // Deletes what it has put.
  void Forget();

 private:
  struct Want {
    int64_t put_us = 0;  // by the store's clock
    double seen = 0;     // when this put was first seen here
    bool timed = false;  // `seen` allows for how old it was then
    uint64_t told = 0;   // the hash of what was put last; 0: nothing is there
  };
  Status Tell(const std::string& table, Want* want);
  Status Untell(const std::string& table, Want* want);

  std::shared_ptr<table::Catalog> catalog_;
  std::string committer_;
  double next_ = 0;
  std::map<std::string, Want> wants_;
};

}  // namespace headrace::trace
