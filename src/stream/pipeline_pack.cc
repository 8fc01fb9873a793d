// Packed batches: which documents a step's rows hold, and their tokens.
#include <arrow/array.h>

#include <algorithm>
#include <cstring>

#include "stream/pending_batch.h"

namespace headrace::stream {
namespace {
constexpr uint64_t kPacking = 7;
}

// The rows of the next step, which may lie in several windows. Every rank plans all of them, from lengths
// alone, and reads its own.
Result<Pipeline::PendingPtr> Pipeline::PlanPackedStep() {
  const StreamOptions& options = *in_.options;
  const auto length = in_.sequence->length();
  const int64_t whole = options.batch * options.world;
  for (;;) {
    auto pending = std::make_shared<PendingBatch>();
    pending->packed = true;
    std::vector<Point> points;
    int64_t taken = 0;
    while (taken < whole) {
      if (length && at_.point.position >= *length) break;
      if (!window_ || !(window_->start == at_.point)) {
        HEADRACE_ASSIGN(window_, WindowAt(at_.point));
      }
      const auto& rows = window_->plan.rows;
      for (; taken < whole && at_.packed < static_cast<int64_t>(rows.size()); ++at_.packed, ++taken) {
        if (taken % options.world != options.rank) continue;
        std::vector<PendingBatch::PackedPiece> pieces;
        for (const Piece& piece : rows[static_cast<size_t>(at_.packed)]) {
          const auto document = static_cast<size_t>(piece.document);
          pieces.push_back(
              {points.size(), piece.begin, piece.length, tokenizes() ? window_->tokens[document] : nullptr});
          points.push_back(window_->points[document]);
        }
        pending->packed_rows.push_back(std::move(pieces));
      }
      if (at_.packed >= static_cast<int64_t>(rows.size())) {
        at_.point.position += static_cast<int64_t>(window_->points.size());
        at_.packed = 0;
      }
    }
    if (taken == 0 || (taken < whole && options.end == EpochEnd::kDrop)) {
      at_.point = {at_.point.epoch + 1, 0};
      at_.packed = 0;
      step_number_ = 0;
      pending->epoch_end = true;
      pending->batch->after = at_;
      return pending;
    }
    if (step_number_++ % options.workers != options.worker) continue;
    pending->batch->after = at_;
    pending->rows =
        options.end == EpochEnd::kShort ? static_cast<int64_t>(pending->packed_rows.size()) : options.batch;
    HEADRACE_TRY(Persist([&] { return Locate(pending.get(), points); }));
    if (tokenizes())  // nothing of them is read again
      for (auto& sample : pending->samples) sample.wanted = false;
    return pending;
  }
}

// The window that begins here. One that has to be tokenized first is made while the one before it is used.
Result<Pipeline::WindowPtr> Pipeline::WindowAt(const Point& start) {
  if (!tokenizes()) return PlanWindow(start);
  WindowPtr window;
  if (next_window_.valid()) {
    HEADRACE_ASSIGN(WindowPtr made, next_window_.get());
    if (made->start == start) window = std::move(made);
  }
  if (!window) {
    HEADRACE_ASSIGN(window, PlanWindow(start));
  }
  Point next{start.epoch, start.position + static_cast<int64_t>(window->points.size())};
  const auto length = in_.sequence->length();
  if (length && next.position >= *length) next = {next.epoch + 1, 0};
  const int64_t epochs = in_.options->epochs;
  if (epochs == 0 || next.epoch < epochs)
    next_window_ = windows_->Submit([this, next] { return PlanWindow(next); });
  return window;
}

Result<Pipeline::WindowPtr> Pipeline::PlanWindow(const Point& start) {
  const PackOptions& pack = in_.options->pack;
  auto window = std::make_shared<Window>();
  window->start = start;
  const auto length = in_.sequence->length();
  const int64_t end = std::min(start.position + pack.window, length.value_or(INT64_MAX));
  std::vector<int64_t> lengths;
  for (int64_t p = start.position; p < end; ++p) {
    const Point point{start.epoch, p};
    window->points.push_back(point);
    if (tokenizes()) continue;
    const auto place = in_.sequence->At(point);
    lengths.push_back((*in_.lengths[static_cast<size_t>(place.source)])[static_cast<size_t>(place.ordinal)]);
  }
  if (tokenizes()) {
    HEADRACE_TRY(Tokenize(window->points, &window->tokens));
    for (const Tokens& tokens : window->tokens) lengths.push_back(static_cast<int64_t>(tokens->size()));
  }
  window->plan =
      PlanPacking(lengths, pack.length, pack.truncate, Derive(in_.sequence->DrawKey(start), kPacking));
  return window;
}

table::Kind Pipeline::TokenKind() const {
  if (tokenizes()) return table::Kind::kInt32;
  return in_.sources[0]->columns()[kPackColumn].projection.leaf.type.children[0].type.kind;
}

Status Pipeline::ReservePacked(const PendingPtr& pending) {
  const PackOptions& pack = in_.options->pack;
  const int64_t cells = pending->rows * pack.length;
  const int64_t width = table::KindBytes(TokenKind());
  MemoryBudget::Grant grant;
  HEADRACE_TRY(Hold(pending, {cells * width, cells * 4, cells * 4}, 0, &grant));
  const std::vector<int64_t> shape{pending->rows, pack.length};
  const std::string dtype = table::KindName(TokenKind());
  pending->batch->columns = {
      {tokenizes() ? "tokens" : pack.tokens,
       ColumnKind::kTensor,
       dtype,
       shape,
       grant.buffers[0],
       {},
       nullptr},
      {"segment_ids", ColumnKind::kTensor, "int32", shape, grant.buffers[1], {}, nullptr},
      {"position_ids", ColumnKind::kTensor, "int32", shape, grant.buffers[2], {}, nullptr}};
  return Status::Ok();
}

// Tokens side by side; segment ids count documents from 1 in each row, 0 is padding; position ids count
// within the document.
Status Pipeline::Pack(PendingBatch* pending) {
  const PackOptions& pack = in_.options->pack;
  const int64_t width = table::KindBytes(TokenKind());
  Batch* batch = pending->batch.get();
  for (auto& column : batch->columns)
    std::memset(column.data->data(), 0, static_cast<size_t>(column.data->size()));
  batch->documents.resize(static_cast<size_t>(pending->rows));
  for (int64_t r = 0; r < pending->rows; ++r) {
    const auto row = static_cast<size_t>(r);
    const bool valid = row < pending->packed_rows.size();
    batch->valid.push_back(valid ? 1 : 0);
    batch->epoch.push_back(valid && !pending->packed_rows[row].empty()
                               ? pending->samples[pending->packed_rows[row][0].sample].point.epoch
                               : -1);
    batch->position.push_back(-1);
    batch->row_id.push_back(-1);
    if (!valid) continue;
    int64_t at = r * pack.length;
    int32_t segment = 0;
    for (const auto& piece : pending->packed_rows[row]) {
      const Sample& sample = pending->samples[piece.sample];
      const uint8_t* from = nullptr;
      if (piece.tokens) {
        from = reinterpret_cast<const uint8_t*>(piece.tokens->data() + piece.begin);
      } else {
        const auto* list = dynamic_cast<const arrow::ListArray*>(sample.chunk->values[kPackColumn].get());
        if (list == nullptr || list->IsNull(sample.row) ||
            list->value_length(sample.row) < piece.begin + piece.length) {
          return Status::Corrupt("row " + std::to_string(sample.row_id) + ": '" + pack.tokens + "' has " +
                                 std::to_string(list ? list->value_length(sample.row) : 0) +
                                 " tokens, and '" + pack.lengths + "' says more");
        }
        const auto& values = *list->values()->data();
        from = values.buffers[1]->data() +
               (values.offset + list->value_offset(sample.row) + piece.begin) * width;
      }
      std::memcpy(batch->columns[0].data->data() + at * width, from,
                  static_cast<size_t>(piece.length * width));
      auto* segments = reinterpret_cast<int32_t*>(batch->columns[1].data->data());
      auto* positions = reinterpret_cast<int32_t*>(batch->columns[2].data->data());
      ++segment;
      for (int64_t k = 0; k < piece.length; ++k) {
        segments[at + k] = segment;
        positions[at + k] = static_cast<int32_t>(piece.begin + k);
      }
      batch->documents[row].push_back(sample.row_id);
      at += piece.length;
    }
    counters_->packed_tokens += at - r * pack.length;
    counters_->packed_slots += pack.length;
  }
  return Status::Ok();
}

}  // namespace headrace::stream
