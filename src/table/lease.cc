#include "table/lease.h"

#include <algorithm>

#include "base/exception_text.h"
#include "base/ids.h"
#include "table/json_read.h"
#include "table/keys.h"
#include "table/sealed_json.h"
#include "table/settle.h"

namespace headrace::table {
namespace {

using nlohmann::json;

// The largest epoch of one name, 0 where there is none.
Result<int64_t> NewestEpoch(store::ObjectStore* store, const std::string& name) {
  HEADRACE_ASSIGN(const auto newest, store->List(kLeasesFolder + name + "/", "", 1));
  if (newest.empty()) return int64_t{0};
  const auto key = ParseKey(newest[0].key);
  if (!key || key->kind != ObjectKind::kLease) return Status::Corrupt("'" + newest[0].key + "' is no lease");
  return key->number;
}

Result<SeenLease> Read(store::ObjectStore* store, const std::string& key) {
  HEADRACE_ASSIGN(const auto bytes, store->Get(key));
  try {
    const json in = ParseJsonOrThrow(bytes.view());
    if (!SealHolds(in)) return Status::Corrupt(key + " is damaged: its checksum does not match");
    SeenLease lease;
    const auto parsed = ParseKey(key);
    if (!parsed || parsed->kind != ObjectKind::kLease) return Status::Corrupt("'" + key + "' is no lease");
    lease.name = parsed->name;
    lease.epoch = parsed->number;
    lease.nonce = in.at("nonce").get<std::string>();
    lease.released = in.value("released", false);
    lease.terms.holder = in.at("holder").get<std::string>();
    lease.terms.ttl_seconds = in.at("ttl_seconds").get<double>();
    lease.terms.table = in.value("table", "");
    lease.terms.version = in.contains("version") ? JsonInt<int64_t>(in.at("version")) : 0;
    lease.terms.writes = in.value("writes", false);
    return lease;
  } catch (const std::exception& error) {
    return Status::Corrupt("cannot read " + key + ": " + ExceptionText(error));
  }
}

}  // namespace

Lease::Lease(std::shared_ptr<store::ObjectStore> store, std::string name, LeaseTerms terms)
    : store_(std::move(store)),
      name_(std::move(name)),
      terms_(std::move(terms)),
      nonce_(Uuid::Random().ToString()) {}

Status Lease::PutNext(bool released) {
  const int64_t next = epoch_ + 1;
  json out = {{"holder", terms_.holder}, {"nonce", nonce_}, {"ttl_seconds", terms_.ttl_seconds}};
  if (released) out["released"] = true;
  if (!terms_.table.empty()) out["table"] = terms_.table;
  if (terms_.version > 0) out["version"] = terms_.version;
  if (terms_.writes) out["writes"] = true;
  Seal(&out);
  const std::string text = out.dump(-1, ' ', false, json::error_handler_t::replace);
  const Status lost = Status::Conflict("the lease '" + name_ + "' is another's now");
  HEADRACE_ASSIGN(const bool ours, PutSettled(
                                       store_.get(), LeaseKey(name_, next), text,
                                       [&](std::string_view there) -> Result<bool> { return there == text; },
                                       "the store never said whether the lease '" + name_ + "' was renewed"));
  if (!ours) return lost;
  // An epoch that is free may be one that was used and deleted long ago: who slept through a takeover and
  // what followed puts it again, below the newest.
  HEADRACE_ASSIGN(const int64_t newest, NewestEpoch(store_.get(), name_));
  if (newest != next) {
    const Status ignored = store_->Delete(LeaseKey(name_, next));
    (void)ignored;  // it is not the newest: nobody looks at it
    return lost;
  }
  if (epoch_ > 0) {
    const Status ignored = store_->Delete(LeaseKey(name_, epoch_));
    (void)ignored;
  }
  epoch_ = next;
  return Status::Ok();
}

namespace {

// The lease, or what stands for one whose bytes are damaged: its holder may be alive all the same.
Result<SeenLease> ReadOrDamaged(store::ObjectStore* store, const std::string& name, int64_t epoch) {
  auto lease = Read(store, LeaseKey(name, epoch));
  if (!lease.status().Is(Code::kCorrupt)) return lease;
  SeenLease damaged;
  damaged.name = name;
  damaged.epoch = epoch;
  damaged.damaged = true;
  damaged.terms.holder = "somebody whose lease is damaged";
  return damaged;
}

}  // namespace

Result<std::unique_ptr<Lease>> Lease::Take(std::shared_ptr<store::ObjectStore> store, std::string name,
                                           LeaseTerms terms, const SeenLease* lapsed) {
  std::unique_ptr<Lease> lease(new Lease(std::move(store), std::move(name), std::move(terms)));
  HEADRACE_ASSIGN(lease->epoch_, NewestEpoch(lease->store_.get(), lease->name_));
  if (lease->epoch_ > 0) {
    HEADRACE_ASSIGN(const SeenLease there, ReadOrDamaged(lease->store_.get(), lease->name_, lease->epoch_));
    const bool is_lapsed = lapsed != nullptr && lapsed->epoch == there.epoch && lapsed->nonce == there.nonce;
    if (!there.released && !is_lapsed)
      return Status::Conflict("the lease '" + lease->name_ + "' is held by " + there.terms.holder);
  }
  HEADRACE_TRY(lease->PutNext(/*released=*/false));
  return lease;
}

Status Lease::Renew() { return PutNext(/*released=*/false); }

Status Lease::Release(bool name_is_unique) {
  if (name_is_unique) return store_->Delete(LeaseKey(name_, epoch_));
  return PutNext(/*released=*/true);
}

Result<std::vector<SeenLease>> ListLeases(store::ObjectStore* store, const std::string& name_prefix) {
  HEADRACE_ASSIGN(const auto objects, store->List(kLeasesFolder + name_prefix, "", INT64_MAX));
  std::vector<SeenLease> leases;
  std::string last;
  for (const auto& object : objects) {  // ascending keys: each name's newest comes first
    const auto key = ParseKey(object.key);
    if (!key || key->kind != ObjectKind::kLease || key->name == last) continue;
    auto lease = ReadOrDamaged(store, key->name, key->number);
    if (lease.status().Is(Code::kNotFound)) {
      // Renewed, or released, since it was listed.
      HEADRACE_ASSIGN(const int64_t newest, NewestEpoch(store, key->name));
      if (newest == 0) continue;
      lease = ReadOrDamaged(store, key->name, newest);
      if (lease.status().Is(Code::kNotFound))
        return Status::Unavailable("the lease '" + key->name + "' changes faster than it can be read");
    }
    last = key->name;
    if (!lease.ok()) return lease.status();
    lease->renewed_us = object.modified_us;
    if (!lease->released) leases.push_back(*std::move(lease));
  }
  return leases;
}

Status RemoveLease(store::ObjectStore* store, const SeenLease& lapsed) {
  HEADRACE_ASSIGN(const auto objects, store->List(kLeasesFolder + lapsed.name + "/", "", INT64_MAX));
  for (const auto& object : objects) {
    const auto key = ParseKey(object.key);
    if (key && key->number <= lapsed.epoch) HEADRACE_TRY(store->Delete(object.key));
  }
  return Status::Ok();
}

LeaseWatch::LeaseWatch(std::function<double()> now) : now_(std::move(now)) {}

void LeaseWatch::See(const std::vector<SeenLease>& leases) {
  const double now = now_();
  for (const auto& lease : leases) {
    const auto it = first_.find(lease.name);
    if (it == first_.end() || it->second.epoch != lease.epoch || it->second.nonce != lease.nonce)
      first_[lease.name] = {lease.epoch, lease.nonce, now};
  }
}

double LeaseWatch::Left(const SeenLease& lease) const {
  const auto it = first_.find(lease.name);
  if (it == first_.end() || it->second.epoch != lease.epoch || it->second.nonce != lease.nonce)
    return lease.terms.ttl_seconds;
  return it->second.at + lease.terms.ttl_seconds - now_();
}

bool LeaseWatch::Lapsed(const SeenLease& lease) const { return Left(lease) <= 0; }

double LeaseWatch::SecondsLeft(const std::vector<SeenLease>& leases) const {
  double left = 0;
  for (const auto& lease : leases) left = std::max(left, Left(lease));
  return left;
}

}  // namespace headrace::table
