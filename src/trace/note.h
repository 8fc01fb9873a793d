// note: how far a committer takes each spool, written down before it commits. A commit of note n carries the
// committer's id and n, so whoever comes after a crash makes the same rows from the same records, and a table
// that has n already is left alone. The next note is written once all tables have this one.
//
//   <root>/committer.note    one line: a checksum and JSON; replaced by rename, synced
//   <root>/committer.lock    flock held by the one process that commits these spools
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "trace/spool.h"

namespace headrace::trace {

struct Note {
  struct Span {
    Position from, to;  // the records that this note takes lie between
    // The note that took what a dead writer never ended, after its last record; 0: none yet.
    int64_t over = 0;
  };
  std::string committer;               // a UUID: the writer of its commits
  int64_t number = 0;                  // their sequence; 0: nothing was taken yet
  std::map<std::string, Span> spools;  // by writer: all that there were
  // By table that it has rows of: the newest version before the note was written, which does not have them;
  // 0: there was no such table. What is committed of a note whose mark is gone is settled by it.
  std::map<std::string, int64_t> since;
  bool finished = false;  // every table has its rows

  // Up to where a table that has notes up to `sequence` (-1: none) has a writer's rows, if it has rows of it.
  Position Taken(const std::string& writer, int64_t sequence) const;
  // Whether such a table has what the writer never ended.
  bool TookInterrupted(const std::string& writer, int64_t sequence) const;
};

// A new one, with an id of its own, where there is none. Corrupt: its checksum does not match; then nothing
// may be committed, since what the tables have is not known.
Result<Note> ReadNote(const std::string& root);
// Durable when it returns.
Status WriteNote(const std::string& root, const Note& note);

}  // namespace headrace::trace
