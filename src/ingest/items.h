// Decides whether a file is in the table already: by source, then by size and modification time, then by
// content.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ingest/run_state.h"
#include "table/view.h"

namespace headrace::ingest {

// Text for a table: UTF-8 as it is, other bytes as \xHH; a backslash is doubled where it would read as such.
// Injective: different names stay different.
std::string TextOfName(const std::string& name);

// XXH3 of the file's bytes. Invalid if it is not what it was when it was found.
Result<uint64_t> HashFile(const FoundFile& file);
// Has the file the size and time of change that it was found with?
Status CheckUnchanged(const FoundFile& file);

class Items {
 public:
  // What the newest version of the run's table has taken in; nothing if there is no such table. `files`: all
  // of the run's, which outlive this.
  static Result<Items> Load(const RunState& run, const std::vector<FoundFile>& files);

  // In the table with this size and time of change: no need to read it.
  bool Unchanged(const FoundFile& file) const;

  // Whether to take a file whose content is known now, told in the run's report. `item`: what to commit with
  // it; also where the answer is kKnown and the table has its rows without knowing the file.
  enum class Answer { kTake, kSkip, kKnown };
  Result<Answer> Decide(const FoundFile& file, uint64_t content, RunState* run, table::TakenItem* item);
  // A row whose photograph may have this content, -1 for none; of the version that was loaded.
  Result<int64_t> RowWith(uint64_t content);
  const table::View* view() const { return view_ ? &*view_ : nullptr; }

 private:
  // What has these bytes and will have them after this run: a source, or a row of the table. `decides`: by
  // the answer a photograph is left out or linked, so the table's rows are asked; else it is only told, and
  // what was taken in is enough.
  Result<std::optional<std::string>> CopyOf(const FoundFile& file, uint64_t content, bool decides);
  // Whether a row of the item is there still; true where nothing is known of its rows.
  Result<bool> HasRows(const table::TakenItem& item);
  // Whether this run takes another content in, in place of the item's rows.
  bool IsReplaced(const table::TakenItem& item);
  static Answer Replace(const FoundFile& file, const table::TakenItem& before, RunState* run,
                        table::TakenItem* item);
  bool AmongRowsBefore(const FoundFile& file, uint64_t content) const;
  Status LoadRowsBefore(const table::View& view);
  // Fills rows_ and sources_, once.
  Status LoadRows();

  std::optional<table::View> view_;                                // none: there is no such table
  std::shared_ptr<const std::vector<table::Fragment>> fragments_;  // once they are needed
  table::Taken taken_;
  std::unordered_multimap<uint64_t, std::string> by_content_;  // sources of `taken_`
  std::unordered_map<uint64_t, std::string> of_this_run_;      // content → the first source that has it
  std::unordered_map<std::string, const FoundFile*>
      replacing_;                                   // the run's files that take the place of rows
  std::unordered_map<std::string, bool> replaced_;  // answers of IsReplaced, by source
  // Of photographs, once they are needed: the table's rows by image.checksum, and the sources of rows.
  std::optional<std::unordered_multimap<uint64_t, int64_t>> rows_;
  std::unordered_map<int64_t, const table::TakenItem*> sources_;
  // Photographs that came before the table kept items: path → (length, checksum), -1 and 0 where unknown.
  std::unordered_multimap<std::string, std::pair<int64_t, uint64_t>> rows_before_;
  std::set<std::string> marks_;  // of data files that were taken in before there were items
};

}  // namespace headrace::ingest
