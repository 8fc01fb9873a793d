// Requests to distant stores: cached blocks, media by pack, tensors by fragment.
#include <arrow/array.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "base/clock.h"
#include "stream/pending_batch.h"

namespace headrace::stream {

void Pipeline::Start(const PendingPtr& pending) {
  if (pending->epoch_end) {
    pending->done.set_value(Status::Ok());
    return;
  }
  if (remote_) {
    Fetch(pending);
  } else {
    Decode(pending);
  }
}

// Requests for a batch, near ones together: cached blocks, media by pack, tensors by fragment.
void Pipeline::Fetch(const PendingPtr& pending) {
  const auto& columns = in_.sources[0]->columns();
  std::map<std::pair<int, int64_t>, Cells> blocks;
  std::map<const store::ObjectReader*, Cells> packs;
  std::map<std::tuple<size_t, int, int32_t>, std::vector<size_t>> rows;
  for (size_t i = 0; i < pending->samples.size(); ++i) {
    Sample& sample = pending->samples[i];
    const auto source = static_cast<size_t>(sample.source);
    if (!sample.wanted || in_.sources[source]->local()) continue;
    sample.media.assign(columns.size(), Result<std::optional<store::Bytes>>(std::nullopt));
    sample.by_row.resize(columns.size());
    for (size_t c = 0; c < columns.size(); ++c) {
      if (columns[c].by_row) {
        rows[{c, sample.source, sample.place.fragment}].push_back(i);
      } else if (columns[c].is_media()) {
        const BlockCache* cache = in_.caches[source];
        const int64_t block = sample.ordinal / in_.cache_block[source];
        const MediaCells& media = sample.chunk->media[c];
        const int32_t pack = media.pack[static_cast<size_t>(sample.row)];
        if (cache != nullptr && cache->Keeps(block)) {
          blocks[{sample.source, block}].emplace_back(i, c);
        } else {
          packs[pack >= 0 ? media.packs[static_cast<size_t>(pack)].get() : nullptr].emplace_back(i, c);
        }
      }
    }
  }
  pending->tasks_left = static_cast<int>(blocks.size() + packs.size() + rows.size());
  if (pending->tasks_left == 0) return Decode(pending);
  const auto submit = [&](auto run) {
    requests_->Submit([this, pending, run = std::move(run)] {
      const double start = MonotonicSeconds();
      if (!Stopping()) run();
      counters_->fetch_us += MicrosSince(start);
      if (pending->tasks_left.fetch_sub(1) == 1) Decode(pending);
    });
  };
  for (auto& [key, cells] : blocks)
    submit([this, pending, at = key, mine = std::move(cells)] {
      FetchBlock(pending, at.first, at.second, mine);
    });
  for (auto& [pack, cells] : packs)
    submit([this, pending, mine = std::move(cells)] { FetchCells(pending, mine); });
  for (auto& [key, members] : rows)
    submit([this, pending, at = key, mine = std::move(members)] {
      FetchRows(pending, std::get<0>(at), std::get<1>(at), std::get<2>(at), mine);
    });
}

void Pipeline::FetchCells(const PendingPtr& pending, Cells cells) {
  const Status status = Persist([&]() -> Status {
    std::vector<Source::Cell> wanted;
    for (const auto& [i, c] : cells)
      wanted.push_back({pending->samples[i].chunk.get(), c, pending->samples[i].row});
    const Source* source = in_.sources[static_cast<size_t>(pending->samples[cells[0].first].source)];
    auto results = source->ReadMediaMany(wanted);
    Status away;
    Cells again;
    for (size_t k = 0; k < cells.size(); ++k) {
      if (IsOutage(results[k].status())) {
        away = results[k].status();
        again.push_back(cells[k]);
      }
      pending->samples[cells[k].first].media[cells[k].second] = std::move(results[k]);
    }
    cells = std::move(again);
    return away;
  });
  if (!status.ok()) pending->Fail(status);
}

void Pipeline::FetchBlock(const PendingPtr& pending, int source_index, int64_t block, const Cells& cells) {
  const auto source = static_cast<size_t>(source_index);
  const int64_t size = in_.cache_block[source];
  store::Bytes bytes;
  const Status status = Persist([&]() -> Status {
    HEADRACE_ASSIGN(bytes, in_.caches[source]->Get(
                               block, [&] { return FetchWholeBlock(in_.sources[source], block, size); }));
    return Status::Ok();
  });
  const auto& columns = in_.sources[source]->columns();
  for (const auto& [i, c] : cells) {
    Sample& sample = pending->samples[i];
    if (!status.ok()) {
      pending->Fail(status);
      return;
    }
    sample.media[c] =
        CellOfBlock(bytes, columns, sample.ordinal - block * size, c, *sample.chunk, sample.row);
  }
}

void Pipeline::FetchRows(const PendingPtr& pending, size_t column, int source, int32_t fragment,
                         std::vector<size_t> members) {
  std::sort(members.begin(), members.end(), [&](size_t a, size_t b) {
    return pending->samples[a].place.row < pending->samples[b].place.row;
  });
  std::vector<int64_t> rows;
  for (const size_t i : members) rows.push_back(pending->samples[i].place.row);
  std::shared_ptr<arrow::Array> values;
  const Status status = Persist([&]() -> Status {
    HEADRACE_ASSIGN(values, in_.sources[static_cast<size_t>(source)]->ReadRows(column, fragment, rows));
    return Status::Ok();
  });
  for (size_t k = 0; k < members.size(); ++k) {
    Sample& sample = pending->samples[members[k]];
    if (status.ok()) {
      sample.by_row[column] = values->Slice(static_cast<int64_t>(k), 1);
    } else {
      pending->Fail(status);
    }
  }
}

}  // namespace headrace::stream
