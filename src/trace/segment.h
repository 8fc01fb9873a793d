// segment: the files that a spool consists of, and their frames (docs/format/spool.md).
//
// There are two ways to write one. A written segment takes each record by one write(): an error, such as a
// full disk, is told for the record that it hit. A mapped segment has its room on the disk from the start and
// takes a record by copying it into memory: no system call. The word `used` in its header moves behind a
// record once all of it is there, so whoever is killed in the middle leaves nothing of the record. In both,
// what was appended is in the kernel and survives the process; Sync() makes it survive the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "trace/kinds.h"

namespace headrace::trace {

inline constexpr int64_t kMaxRecordBytes = 128 << 20;

// What follows a record: where the next begins. Ascends through a writer's life, so it is the sequence of a
// commit that took everything before it.
struct Position {
  int64_t segment = 0;  // from 1
  int64_t offset = 0;   // bytes
  auto operator<=>(const Position&) const = default;
  int64_t sequence() const { return segment << 32 | offset; }
  static Position Of(int64_t sequence) { return {sequence >> 32, sequence & 0xffffffff}; }
};

struct Record {
  Kind kind = Kind::kStart;
  std::string_view payload;  // valid during the call
  Position end;
};

// Bytes of a record beside its payload.
inline constexpr int64_t kFrameBytes = 13;
inline constexpr int64_t kMostSegmentHeaderBytes = 32;

// One segment, open for appending. Not thread-safe, but for Sync().
class SegmentWriter {
 public:
  virtual ~SegmentWriter() = default;
  // After an error nothing of the record is there; where `given_up`, later records belong into another
  // segment.
  virtual Status Append(Kind kind, std::string_view payload) = 0;
  virtual Position end() const = 0;
  // Bytes that are left for records and their frames.
  virtual int64_t room() const = 0;
  virtual bool given_up() const = 0;
  // Everything that was appended before is durable. May be called beside Append.
  virtual Status Sync() = 0;
};

Result<std::unique_ptr<SegmentWriter>> CreateWrittenSegment(const std::string& folder, int64_t number,
                                                            int64_t bytes);
// Unsupported where the folder's file system cannot: it is shared by machines, or does not map or reserve.
// Another error where it is full.
Result<std::unique_ptr<SegmentWriter>> CreateMappedSegment(const std::string& folder, int64_t number,
                                                           int64_t bytes);

std::string SegmentPath(const std::string& folder, int64_t segment);
// In ascending order.
std::vector<int64_t> Segments(const std::string& folder);
// Bytes of a segment that hold records after `offset`; 0 where it is gone.
int64_t SegmentBytes(const std::string& folder, int64_t segment, int64_t offset);

struct SegmentReport {
  Position end;           // after the last whole record; {} where it is not a segment
  std::string complaint;  // what could not be read, "" where all was
  bool stopped = false;   // by `each`, with Cancelled
};
// The records of one segment from `offset` on; NotFound where it is gone. `last`: there is no later one, so
// that half a record at its end is what a killed process leaves, and no complaint.
Result<SegmentReport> ReadSegment(const std::string& folder, int64_t segment, int64_t offset, bool last,
                                  const std::function<Status(const Record&)>& each);

}  // namespace headrace::trace
