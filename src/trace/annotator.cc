#include "trace/annotator.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr int kTries = 1000;  // to be the one who adds the next entry

std::string LeaseName(const Queue& queue, const std::string& session) {
  return "queue-" + queue.id.ToString() + "-" + session;
}

Status TooBusy() { return Status::Unavailable("others add to the queue's log faster than this can"); }

json Step(const char* op, int64_t item) { return {{"op", op}, {"item", item}}; }

json Release(int64_t item, const std::string& session) {
  return {{"op", "release"}, {"item", item}, {"session", session}};
}

}  // namespace

Annotator::Annotator(std::shared_ptr<table::Catalog> catalog, const Queue& queue, AnnotatorOptions options,
                     QueueLog log)
    : catalog_(std::move(catalog)),
      queue_(queue),
      options_(std::move(options)),
      log_(std::move(log)),
      watch_(MonotonicSeconds) {}

Result<std::unique_ptr<Annotator>> Annotator::Open(std::shared_ptr<table::Catalog> catalog,
                                                   const Queue& queue, AnnotatorOptions options) {
  if (options.who.empty()) return Status::Invalid("labels are somebody's: who is it?");
  HEADRACE_ASSIGN(QueueLog log, QueueLog::Open(catalog->environment()->store, queue.id));
  std::unique_ptr<Annotator> annotator(
      new Annotator(std::move(catalog), queue, std::move(options), std::move(log)));
  HEADRACE_ASSIGN(annotator->items_, QueueItems(*annotator->catalog_, queue));
  HEADRACE_TRY(annotator->Begin());
  annotator->beat_ = std::thread([raw = annotator.get()] { raw->Beat(); });
  return annotator;
}

Annotator::~Annotator() {
  {
    const std::lock_guard lock(lease_mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (beat_.joinable()) beat_.join();
}

// A new session, alive from here on.
Status Annotator::Begin() {
  session_ = Uuid::Random().ToString();
  begun_ = false;
  stored_ = 0;
  const std::lock_guard lock(lease_mutex_);
  used_ = MonotonicSeconds();
  HEADRACE_ASSIGN(lease_, table::Lease::Take(catalog_->environment()->store, LeaseName(queue_, session_),
                                             {.holder = options_.who, .ttl_seconds = options_.ttl_seconds}));
  return Status::Ok();
}

void Annotator::Beat() {
  pthread_setname_np(pthread_self(), "hr-queue");
  std::unique_lock lock(lease_mutex_);
  const std::chrono::duration<double> every(options_.ttl_seconds / 3);
  while (!wake_.wait_for(lock, every, [&] { return stopping_; })) {
    const bool idle = options_.idle_seconds > 0 && MonotonicSeconds() - used_ > options_.idle_seconds;
    if (lease_ && !idle) (void)lease_->Renew();  // what was lost is seen in the log
  }
}

// Before each call: the log as it is now, and a session that is in it.
Status Annotator::Ready() {
  if (closed_) return Status::Invalid("the annotator was closed");
  {
    const std::lock_guard lock(lease_mutex_);
    used_ = MonotonicSeconds();
  }
  HEADRACE_TRY(log_.Refresh());
  // Its rows were written by whoever found it dead, too.
  if (begun_ && !log_.state().sessions.contains(session_)) {
    unwritten_.clear();
    HEADRACE_TRY(Begin());
  }
  return Flush();
}

Status Annotator::Flush() {
  while (!unwritten_.empty()) {
    HEADRACE_TRY(options_.write(unwritten_.front()));
    unwritten_.erase(unwritten_.begin());
    ++stored_;
  }
  return Status::Ok();
}

Result<bool> Annotator::Append(Steps steps) {
  HEADRACE_ASSIGN(const bool added, log_.Append({{"session", session_},
                                                 {"who", options_.who},
                                                 {"time", NowMicros()},
                                                 {"stored", stored_},
                                                 {"do", std::move(steps)}}));
  begun_ = begun_ || added;
  return added;
}

// Ends the sessions of the dead. Whether there were any.
Result<bool> Annotator::Sweep() {
  auto& store = catalog_->environment()->store;
  const auto leases = table::ListLeases(store.get(), "queue-" + queue_.id.ToString() + "-");
  if (leases.status().Is(Code::kUnavailable)) return false;
  HEADRACE_TRY(leases.status());
  watch_.See(*leases);
  const auto sessions = log_.state().sessions;
  for (const auto& [id, session] : sessions) {
    if (id == session_) continue;
    const auto lease =
        std::find_if(leases->begin(), leases->end(),
                     [&, name = LeaseName(queue_, id)](const auto& one) { return one.name == name; });
    if (lease != leases->end() && !watch_.Lapsed(*lease)) continue;
    // Rows that it may not have stored before it died: stored twice, a score is still one.
    for (const json& row : session.rows) HEADRACE_TRY(options_.write(row));
    HEADRACE_ASSIGN(const bool added, Append(json::array({{{"op", "lapse"}, {"session", id}}})));
    if (added && lease != leases->end()) HEADRACE_TRY(table::RemoveLease(store.get(), *lease));
    return true;
  }
  return false;
}

// An item that the same person has in another session, which need not have died. Whether there is one.
Result<bool> Annotator::TakeOver() {
  for (const auto& [number, item] : log_.state().items) {
    const std::string session = log_.state().SessionWith(number, options_.who);
    if (session.empty() || session == session_) continue;
    HEADRACE_TRY(Append(json::array({Release(number, session), Step("claim", number)})).status());
    return true;
  }
  return false;
}

Result<std::optional<QueueItem>> Annotator::Next() {
  const std::lock_guard lock(mutex_);
  HEADRACE_TRY(Ready());
  for (int tries = 0; tries < kTries; ++tries) {
    const QueueState& state = log_.state();
    if (const auto held = state.HeldBy(session_)) {
      HEADRACE_ASSIGN(const QueueItem* item, ItemAt(*held));
      return std::optional<QueueItem>(*item);
    }
    const auto free = state.Free(options_.who, queue_.items, queue_.overlap);
    if (!free) {
      if (state.Left(options_.who, queue_.items, queue_.overlap) == 0) return std::optional<QueueItem>();
      HEADRACE_ASSIGN(bool some, Sweep());
      if (!some) {
        HEADRACE_ASSIGN(some, TakeOver());
      }
      if (!some) return std::optional<QueueItem>();
      continue;
    }
    HEADRACE_ASSIGN(const bool added, Append(json::array({Step("claim", *free)})));
    if (!added) HEADRACE_TRY(Ready());
  }
  return TooBusy();
}

Result<const QueueItem*> Annotator::ItemAt(int64_t number) const {
  if (number < 0 || number >= static_cast<int64_t>(items_.size()))
    return Status::NotFound("the queue '" + queue_.name + "' has no item " + std::to_string(number));
  return &items_[static_cast<size_t>(number)];
}

// Of what this annotator last said of the item; 0: nothing.
int64_t Annotator::TimeOf(int64_t number) const {
  const auto mine = log_.state().done.find(options_.who);
  if (mine == log_.state().done.end()) return 0;
  for (const QueueState::Done& done : mine->second)
    if (done.item == number) return done.time;
  return 0;
}

json Annotator::RowOf(const QueueItem& item) const {
  return {{"target_kind", item.target.kind},
          {"target", item.target.id},
          {"name", queue_.rubric.name},
          {"source", "person"},
          {"who", options_.who},
          {"queue", queue_.name}};
}

Result<json> Annotator::Finish(int64_t number, const char* op, json row) {
  for (int tries = 0; tries < kTries; ++tries) {
    const QueueState::Item& item = log_.state().At(number);
    json steps = json::array();
    const bool labelled = item.labels.contains(options_.who);
    if (labelled && std::string_view(op) != "label")
      return Status::Invalid("item " + std::to_string(number) + " has a label of " + options_.who +
                             "; undo takes it back");
    if (!labelled && !item.claims.contains(session_)) {
      const std::string elsewhere = log_.state().SessionWith(number, options_.who);
      if (elsewhere.empty() && item.places() >= queue_.overlap)
        return Status::Conflict("item " + std::to_string(number) + " has gone to others");
      if (!elsewhere.empty()) steps.push_back(Release(number, elsewhere));
      steps.push_back(Step("claim", number));
    }
    FinishScore(&row, TimeOf(number));
    json done = Step(op, number);
    done["row"] = row;
    steps.push_back(std::move(done));
    if (const auto next = log_.state().Free(options_.who, queue_.items, queue_.overlap))
      if (*next != number) steps.push_back(Step("claim", *next));
    HEADRACE_ASSIGN(const bool added, Append(std::move(steps)));
    if (added) {
      unwritten_.push_back(row);
      (void)Flush();  // it is in the log; the next call tries again
      return row;
    }
    HEADRACE_TRY(Ready());
  }
  return TooBusy();
}

Result<json> Annotator::Label(int64_t number, const Judgement& judgement) {
  const std::lock_guard lock(mutex_);
  HEADRACE_ASSIGN(const QueueItem* item, ItemAt(number));
  HEADRACE_TRY(queue_.rubric.Check(judgement.value, judgement.label));
  HEADRACE_TRY(Ready());
  json row = RowOf(*item);
  if (!queue_.rubric.labels.empty()) row["label"] = judgement.label;
  if (queue_.rubric.labels.empty()) row["value"] = *judgement.value;
  if (!judgement.comment.empty()) row["comment"] = judgement.comment;
  if (judgement.seconds > 0) row["seconds"] = judgement.seconds;
  return Finish(number, "label", std::move(row));
}

Result<json> Annotator::Skip(int64_t number, const std::string& comment) {
  const std::lock_guard lock(mutex_);
  HEADRACE_ASSIGN(const QueueItem* item, ItemAt(number));
  HEADRACE_TRY(Ready());
  json row = RowOf(*item);
  row["state"] = "skipped";
  if (!comment.empty()) row["comment"] = comment;
  return Finish(number, "skip", std::move(row));
}

Result<std::optional<QueueItem>> Annotator::Undo() {
  const std::lock_guard lock(mutex_);
  HEADRACE_TRY(Ready());
  for (int tries = 0; tries < kTries; ++tries) {
    const QueueState& state = log_.state();
    const auto mine = state.done.find(options_.who);
    if (mine == state.done.end() || mine->second.empty()) return std::optional<QueueItem>();
    const QueueState::Done last = mine->second.back();
    if (last.skipped && state.At(last.item).places() >= queue_.overlap)
      return Status::Conflict("item " + std::to_string(last.item) +
                              " was skipped, and has gone to others since");
    HEADRACE_ASSIGN(const QueueItem* item, ItemAt(last.item));
    json row = RowOf(*item);
    row["state"] = "withdrawn";
    FinishScore(&row, last.time);
    row["supersedes"] = row["id"];
    json steps = json::array();
    if (const auto held = state.HeldBy(session_)) steps.push_back(Step("release", *held));
    json undo = Step("undo", last.item);
    undo["row"] = row;
    steps.push_back(std::move(undo));
    HEADRACE_ASSIGN(const bool added, Append(std::move(steps)));
    if (added) {
      unwritten_.push_back(std::move(row));
      (void)Flush();
      return std::optional<QueueItem>(*item);
    }
    HEADRACE_TRY(Ready());
  }
  return TooBusy();
}

Result<QueueProgress> Annotator::Progress() {
  const std::lock_guard lock(mutex_);
  HEADRACE_TRY(log_.Refresh());
  const QueueState& state = log_.state();
  QueueProgress progress{
      .items = queue_.items, .wanted = queue_.items * queue_.overlap, .labels = state.labels()};
  if (const auto mine = state.done.find(options_.who); mine != state.done.end())
    progress.mine = std::count_if(mine->second.begin(), mine->second.end(),
                                  [](const auto& done) { return !done.skipped; });
  progress.left = state.Left(options_.who, queue_.items, queue_.overlap);
  return progress;
}

Status Annotator::Close() {
  const std::lock_guard lock(mutex_);
  if (closed_) return Status::Ok();
  HEADRACE_TRY(Ready());
  for (int tries = 0; begun_ && tries < kTries; ++tries) {
    HEADRACE_ASSIGN(const bool added, Append(json::array({{{"op", "end"}}})));
    if (added) break;
    HEADRACE_TRY(Ready());
  }
  closed_ = true;
  const std::lock_guard held(lease_mutex_);
  if (!lease_) return Status::Ok();
  const Status released = lease_->Release(/*name_is_unique=*/true);
  lease_.reset();
  return released;
}

}  // namespace headrace::trace
