#include "serve/with_model.h"

#include <atomic>
#include <utility>

#include "base/clock.h"
#include "serve/refusal.h"

namespace headrace::serve {
namespace {

// Goes on with the lease; refused where the model was loaded without the adapter, which it had before.
void Choose(const std::shared_ptr<Ticket>& ticket, Lease served, const std::string& adapter, double waited,
            const std::function<void(Chosen)>& go) {
  Chosen chosen;
  if (!adapter.empty()) {
    const auto& adapters = served->session->adapters();
    const auto found = adapters.find(adapter);
    if (found == adapters.end())
      return (void)ticket->Refuse({404, "model_not_found", "model",
                                   "'" + served->name + "' has no adapter '" + adapter +
                                       "' that can be loaded; the server's log says why"});
    chosen.adapter = found->second;
    chosen.adapter_name = adapter;
  }
  chosen.served = std::move(served);
  chosen.waited = waited;
  go(std::move(chosen));
}

api::Fault NotLoaded(const Status& status) {
  if (status.Is(Code::kCancelled)) return ShuttingDown();
  if (status.Is(Code::kLimit)) return {429, "queue_full", "", status.ToString(), 1};
  return {503, "model_unavailable", "model", status.ToString(), Backend::kRetrySeconds};
}

// A call that waits for its model. It ends once: its lease comes, or one of the others does.
class ModelWait final : public std::enable_shared_from_this<ModelWait> {
 public:
  ModelWait(std::shared_ptr<Ticket> ticket, const Named& named, std::function<void(Chosen)> go)
      : ticket_(std::move(ticket)), named_(named), go_(std::move(go)), began_(MonotonicSeconds()) {}

  void Begin(double timeout) {
    const std::weak_ptr<ModelWait> weak = weak_from_this();
    ticket_->Enter(named_.backend->name(), 0, [weak] {
      if (const auto self = weak.lock()) self->End([&] { self->ticket_->Refuse(ShuttingDown()); });
    });
    ticket_->AwaitModel();
    // Held by the backend until it is called or cancelled.
    wait_ = named_.backend->Acquire(
        [self = shared_from_this()](Result<Lease> lease) { self->Come(std::move(lease)); });
    if (over_) return (void)named_.backend->Cancel(wait_);  // it was stopped meanwhile
    ticket_->exchange()->OnGone([weak] {
      if (const auto self = weak.lock()) self->End([&] { self->ticket_->End({.status = 499}); });
    });
    if (timeout > 0)
      ticket_->services().http->After(timeout, [weak] {
        if (const auto self = weak.lock()) self->End([&] { self->ticket_->Refuse(DeadlinePassed()); });
      });
    if (ticket_->services().stopping) End([&] { ticket_->Refuse(ShuttingDown()); });
  }

 private:
  // On a thread of the backend's, or of who acquires.
  void Come(Result<Lease> lease) {
    if (over_.exchange(true)) return;
    if (!lease.ok()) return (void)ticket_->Refuse(NotLoaded(lease.status()));
    const auto go_on = [self = shared_from_this(), lease = std::move(*lease)]() mutable {
      Choose(self->ticket_, std::move(lease), self->named_.adapter, MonotonicSeconds() - self->began_,
             self->go_);
    };
    if (!ticket_->services().workers.TrySubmit(go_on)) ticket_->Refuse(ShuttingDown());
  }

  // Before the lease has come. The backend lets go of the call, so that it waits no longer.
  void End(const std::function<void()>& end) {
    if (over_.exchange(true)) return;
    end();
    named_.backend->Cancel(wait_);
  }

  const std::shared_ptr<Ticket> ticket_;
  const Named named_;
  const std::function<void(Chosen)> go_;
  const double began_;
  std::atomic<Backend::WaitId> wait_{Backend::kNoWait};
  std::atomic<bool> over_{false};
};

}  // namespace

void WithModel(std::shared_ptr<Ticket> ticket, const Named& named, double timeout,
               std::function<void(Chosen)> go) {
  if (Lease lease = named.backend->TryAcquire())
    return Choose(ticket, std::move(lease), named.adapter, 0, go);
  std::make_shared<ModelWait>(std::move(ticket), named, std::move(go))->Begin(timeout);
}

}  // namespace headrace::serve
