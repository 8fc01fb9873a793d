// Samples into a batch's slots.
#include <arrow/array.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/mapped_file.h"
#include "stream/pending_batch.h"

namespace headrace::stream {

void Pipeline::Decode(const PendingPtr& pending) {
  const auto& columns = in_.sources[0]->columns();
  const bool images = std::any_of(columns.begin(), columns.end(),
                                  [](const Column& column) { return column.kind == ColumnKind::kImage; });
  if (!images || pending->packed) {
    pending->tasks_left = 1;
    decoders_->Submit([this, pending] {
      const double start = MonotonicSeconds();
      for (size_t i = 0; i < pending->samples.size() && !pending->packed && !Stopping(); ++i)
        DecodeSample(pending.get(), i);
      if (!Stopping()) FinishBatch(pending.get());
      counters_->decode_us += MicrosSince(start);
    });
    return;
  }
  pending->tasks_left = static_cast<int>(pending->samples.size());
  for (size_t i = 0; i < pending->samples.size(); ++i) {
    decoders_->Submit([this, pending, i] {
      const double start = MonotonicSeconds();
      if (!Stopping()) DecodeSample(pending.get(), i);
      if (pending->tasks_left.fetch_sub(1) == 1 && !Stopping()) FinishBatch(pending.get());
      counters_->decode_us += MicrosSince(start);
    });
  }
}

void Pipeline::DecodeSample(PendingBatch* pending, size_t index) {
  Sample& sample = pending->samples[index];
  if (!sample.wanted) return;
  sample.bad = Fill(pending, index);
  for (const auto& files : in_.files) {
    const Status whole = MappedFile::CheckSince(in_.tears, files);
    if (whole.ok()) continue;
    pending->Fail(whole);  // what was filled in may be zeros, here and in other samples
    return;
  }
  if (sample.bad.ok()) return;
  if (IsOutage(sample.bad) || sample.bad.Is(Code::kCancelled)) {
    pending->Fail(sample.bad);
    return;
  }
  ReportBad(sample);
  if (in_.options->on_error == OnError::kSubstitute) sample.bad = Substitute(pending, index);
}

Result<std::optional<store::Bytes>> Pipeline::MediaOf(Sample* sample, size_t column) {
  if (column < sample->media.size()) return std::move(sample->media[column]);
  Result<std::optional<store::Bytes>> bytes(std::nullopt);
  HEADRACE_TRY(Persist([&]() -> Status {
    bytes = in_.sources[static_cast<size_t>(sample->source)]->ReadMedia(*sample->chunk, column, sample->row);
    return IsOutage(bytes.status()) ? bytes.status() : Status::Ok();
  }));
  return bytes;
}

Status Pipeline::Fill(PendingBatch* pending, size_t index) {
  Sample& sample = pending->samples[index];
  const auto& columns = in_.sources[static_cast<size_t>(sample.source)]->columns();
  thread_local media::Scratch scratch;
  thread_local media::Canvas canvas;
  for (size_t c = 0; c < columns.size(); ++c) {
    const Column& column = columns[c];
    BatchColumn& out = pending->batch->columns[c];
    Status status;
    if (column.kind == ColumnKind::kTensor) {
      const bool by_row = c < sample.by_row.size() && sample.by_row[c];
      if (column.by_row && !by_row) continue;  // its request failed, and said so
      const arrow::Array& values = by_row ? *sample.by_row[c] : *sample.chunk->values[c];
      status = CopyTensor(column, values, by_row ? 0 : sample.row,
                          out.data->data() + static_cast<int64_t>(index) * column.row_bytes);
    } else if (column.is_media()) {
      auto bytes = MediaOf(&sample, c);
      if (!bytes.ok()) {
        status = bytes.status();
      } else if (column.kind == ColumnKind::kBlob) {
        out.blobs[index] = std::move(bytes).value();
      } else if (!bytes->has_value()) {
        status = Status::Invalid("it is null; add \"" + column.name + " is not null\" to the filter");
      } else {
        media::ImageFacts facts = sample.chunk->media[c].facts[static_cast<size_t>(sample.row)];
        // For rotated images, earlier versions recorded the stored size instead of the displayed one: the
        // file's header decides.
        if (facts.width <= 0 || facts.height <= 0 || media::SwapsAxes(facts.orientation)) {
          auto probed = media::ProbeImage((*bytes)->view());
          if (probed.ok()) {
            facts = *probed;
          } else {
            status = probed.status();
          }
        }
        if (status.ok()) {
          const uint64_t key = Derive(in_.sequence->DrawKey(sample.point), column.name_hash);
          status = column.ops.Run((*bytes)->view(), facts, key, &scratch, &canvas,
                                  out.data->data() + static_cast<int64_t>(index) * column.row_bytes);
        }
      }
    }
    if (!status.ok()) return status.Wrap("column '" + column.name + "'");
  }
  return Status::Ok();
}

// Replaces a bad row by another one, chosen from the position alone, so that every run chooses the same.
Status Pipeline::Substitute(PendingBatch* pending, size_t index) {
  Sample& sample = pending->samples[index];
  Source* source = in_.sources[static_cast<size_t>(sample.source)];
  Draws draws(Derive(in_.sequence->DrawKey(sample.point), 1 << 20));
  Status status = sample.bad;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto n = static_cast<uint64_t>(source->selection().rows());
    sample.ordinal = static_cast<int64_t>(draws.Next() % n);
    HEADRACE_ASSIGN(sample.place, source->selection().At(sample.ordinal));
    HEADRACE_ASSIGN(sample.chunk, source->ChunkOf(sample.place));
    sample.row = Source::ChunkRow(*sample.chunk, sample.place);
    HEADRACE_ASSIGN(sample.row_id, source->selection().RowIdAt(sample.place));
    sample.media.clear();
    sample.by_row.clear();
    for (size_t c = 0; c < source->columns().size(); ++c) {
      if (!source->columns()[c].by_row) continue;
      sample.by_row.resize(source->columns().size());
      HEADRACE_ASSIGN(sample.by_row[c], source->ReadRows(c, sample.place.fragment, {sample.place.row}));
    }
    status = Fill(pending, index);
    if (status.ok()) return status;
  }
  return status.Wrap("ten substitutes were bad as well; the last");
}

void Pipeline::ReportBad(const Sample& sample) {
  const std::lock_guard lock(counters_->mutex);
  counters_->bad += 1;
  if (counters_->bad_rows.size() < 100)
    counters_->bad_rows.emplace_back(sample.row_id, sample.bad.ToString());
}

// The last one to finish a batch fills in what is left.
void Pipeline::FinishBatch(PendingBatch* pending) {
  Status status = pending->failure();
  if (status.ok()) status = pending->packed ? Pack(pending) : Collect(pending);
  pending->samples.clear();
  pending->downloads.reset();
  pending->done.set_value(status);
}

Status Pipeline::Collect(PendingBatch* pending) {
  Batch* batch = pending->batch.get();
  const auto& columns = in_.sources[0]->columns();
  int64_t bytes = 0;
  for (auto& sample : pending->samples) {
    if (!sample.bad.ok() && in_.options->on_error != OnError::kMask) {
      return sample.bad.Wrap("row " + std::to_string(sample.row_id) + " (epoch " +
                             std::to_string(sample.point.epoch) + ", position " +
                             std::to_string(sample.point.position) + ")");
    }
    const bool valid = sample.wanted && sample.bad.ok();
    batch->valid.push_back(valid ? 1 : 0);
    batch->epoch.push_back(sample.wanted ? sample.point.epoch : -1);
    batch->position.push_back(sample.wanted ? sample.point.position : -1);
    batch->row_id.push_back(sample.row_id);
    if (in_.sources.size() > 1) batch->source.push_back(sample.wanted ? sample.source : -1);
  }
  for (size_t c = 0; c < columns.size(); ++c) {
    BatchColumn& out = batch->columns[c];
    if (columns[c].kind == ColumnKind::kValues) {
      HEADRACE_ASSIGN(out.values, GatherValues(columns[c], c, pending->samples));
    }
    if (out.data) bytes += out.data->size();
    for (size_t i = 0; i < pending->samples.size(); ++i) {
      if (columns[c].kind == ColumnKind::kBlob && out.blobs[i]) bytes += out.blobs[i]->size();
      if (batch->valid[i] != 0) continue;
      if (out.data)
        std::memset(out.data->data() + static_cast<int64_t>(i) * columns[c].row_bytes, 0,
                    static_cast<size_t>(columns[c].row_bytes));
      if (columns[c].kind == ColumnKind::kBlob) out.blobs[i].reset();
    }
  }
  counters_->batch_bytes += bytes;
  return Status::Ok();
}

}  // namespace headrace::stream
