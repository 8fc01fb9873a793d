// Texts into tokens, a window of rows at a time.
#include <arrow/array.h>

#include <algorithm>

#include "base/clock.h"
#include "stream/pending_batch.h"

namespace headrace::stream {
namespace {

constexpr size_t kTogether = 256;  // rows whose pages are held at once
constexpr size_t kPortion = 16;    // rows of a task

}  // namespace

Status Pipeline::Tokenize(const std::vector<Point>& points, std::vector<Tokens>* tokens) {
  const Tokenizer& tokenizer = *in_.options->pack.tokenizer;
  tokens->assign(points.size(), nullptr);
  // A window in use and one being made, beside the batches.
  const int64_t most = in_.memory->limit() / 4;
  int64_t bytes = 0;
  const auto portion = [&](const PendingBatch& pending, size_t from, size_t begin, size_t end) -> Status {
    const double start = MonotonicSeconds();
    for (size_t i = begin; i < end && !Stopping(); ++i) {
      const Sample& sample = pending.samples[i];
      const auto* texts = dynamic_cast<const arrow::StringArray*>(sample.chunk->values[kPackColumn].get());
      const std::string where =
          "row " + std::to_string(sample.row_id) + ": column '" + in_.options->pack.tokens + "'";
      if (texts == nullptr) return Status::Corrupt(where + " holds no text");
      auto made = std::make_shared<std::vector<int32_t>>();
      if (texts->IsValid(sample.row)) {
        auto result = tokenizer.Tokenize(texts->GetView(sample.row));
        if (!result.ok()) return result.status().Wrap(where);
        *made = std::move(result).value();
        made->shrink_to_fit();
      }
      (*tokens)[from + i] = std::move(made);
    }
    counters_->decode_us += MicrosSince(start);
    return Status::Ok();
  };
  for (size_t from = 0; from < points.size(); from += kTogether) {
    if (Stopping()) return Status::Cancelled();
    const size_t count = std::min(kTogether, points.size() - from);
    PendingBatch pending;
    const std::vector<Point> some(points.begin() + static_cast<std::ptrdiff_t>(from),
                                  points.begin() + static_cast<std::ptrdiff_t>(from + count));
    HEADRACE_TRY(Persist([&] { return Locate(&pending, some); }));
    HEADRACE_TRY(LoadChunks(&pending));
    std::vector<std::future<Status>> portions;
    for (size_t begin = 0; begin < count; begin += kPortion)
      portions.push_back(tokenizers_->Submit(
          [&, begin] { return portion(pending, from, begin, std::min(count, begin + kPortion)); }));
    Status status;
    for (auto& one : portions)
      if (const Status ended = one.get(); status.ok()) status = ended;
    HEADRACE_TRY(status);
    if (Stopping()) return Status::Cancelled();
    for (size_t i = from; i < from + count; ++i) bytes += static_cast<int64_t>((*tokens)[i]->size()) * 4;
    if (bytes > most) {
      return Status::Limit("the tokens of " + std::to_string(from + count) + " documents already take " +
                           std::to_string(bytes >> 20) +
                           " MB, a quarter of what the stream may use; make the packing window (" +
                           std::to_string(points.size()) + " documents) smaller, or raise memory");
    }
  }
  return Status::Ok();
}

}  // namespace headrace::stream
