// The memory of batches: counted against a budget, reused from batch to batch. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/cancel.h"

namespace headrace::stream {

class MemoryBudget;

// Memory aligned to 64 bytes; goes back to its budget when the last owner lets go.
class Buffer {
 public:
  Buffer(std::shared_ptr<MemoryBudget> budget, uint8_t* data, int64_t size)
      : budget_(std::move(budget)), data_(data), size_(size) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  std::shared_ptr<MemoryBudget> budget_;
  uint8_t* data_;
  int64_t size_;
};

// Bytes that count against the budget but are allocated elsewhere (a download).
class Reservation {
 public:
  Reservation(std::shared_ptr<MemoryBudget> budget, int64_t bytes)
      : budget_(std::move(budget)), bytes_(bytes) {}
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

 private:
  std::shared_ptr<MemoryBudget> budget_;
  int64_t bytes_;
};

class MemoryBudget : public std::enable_shared_from_this<MemoryBudget> {
 public:
  explicit MemoryBudget(int64_t limit) : limit_(limit) {}
  ~MemoryBudget();

  // Buffers of these sizes and a reservation of `extra` bytes, all or nothing.
  struct Grant {
    std::vector<std::shared_ptr<Buffer>> buffers;
    std::shared_ptr<Reservation> extra;
  };
  bool Take(const std::vector<int64_t>& sizes, int64_t extra, Grant* grant);
  // The same, waiting for memory that comes back: for `seconds` at most, or until the token is stopped.
  bool TakeWithin(double seconds, const StopToken& stop, const std::vector<int64_t>& sizes, int64_t extra,
                  Grant* grant);

  int64_t limit() const { return limit_; }
  int64_t used() const;
  int64_t peak() const;

 private:
  friend class Buffer;
  friend class Reservation;
  void Return(uint8_t* data, int64_t size);
  void Release(int64_t bytes);
  bool TakeLocked(const std::vector<int64_t>& sizes, int64_t extra, Grant* grant);
  // Drops free memory until `bytes` more fit.
  bool MakeRoom(int64_t bytes);

  mutable std::mutex mutex_;
  std::condition_variable_any returned_;
  int64_t limit_;
  int64_t used_ = 0;  // by buffers in use and reservations
  int64_t free_ = 0;
  int64_t peak_ = 0;
  std::vector<std::pair<int64_t, uint8_t*>> idle_;
};

}  // namespace headrace::stream
