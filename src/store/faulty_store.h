// A store that misbehaves on purpose, for tests: wraps another and injects one kind of fault per plan.
//
// Two ways to plan: "the N-th operation from now" (for loops over every N, after SQLite's method), or seeded
// at random.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "store/object_store.h"

namespace headrace::store {

enum class Fault {
  kNone,
  kFail,       // the operation does nothing and reports Unavailable
  kCrash,      // this and every later operation does nothing: the process is dead
  kHang,       // nothing happens, and after `hang_ms` it reports Timeout
  kAmbiguous,  // the operation takes effect, then reports Timeout
  kDelay,      // it takes effect `hang_ms` late
  kShortRead,  // a read returns half its bytes; a write behaves as kFail
  kDuplicate,  // a write is sent twice and the second answer is reported (a retrying proxy)
};

struct FaultPlan {
  int64_t at = -1;  // inject at this operation, counted from 0 since Arm(); -1: never
  Fault fault = Fault::kNone;
  double probability = 0;  // and besides: at random, any of `kinds`
  std::vector<Fault> kinds;
  uint64_t seed = 0;
  int hang_ms = 5;
};

class FaultyStore : public ObjectStore {
 public:
  virtual void Arm(const FaultPlan& plan) = 0;
  // Operations seen since Arm().
  virtual int64_t operations() const = 0;
  // Whether the planned fault was injected since Arm().
  virtual bool fired() const = 0;
};

std::shared_ptr<FaultyStore> NewFaultyStore(std::shared_ptr<ObjectStore> inner);

}  // namespace headrace::store
