// Streams for Python: options from a dict, batches as dicts of arrays over the batch's own memory.
#include "stream/stream.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bridge.h"
#include "cells.h"
#include "stream/assemble.h"
#include "table/catalog.h"
#include "tokenizer.h"

namespace headrace::python {
namespace {

using BatchPtr = std::shared_ptr<const stream::Batch>;

nb::dlpack::dtype DtypeOf(const std::string& name) {
  using nb::dlpack::dtype_code;
  const auto make = [](dtype_code code, int bits) {
    return nb::dlpack::dtype{static_cast<uint8_t>(code), static_cast<uint8_t>(bits), 1};
  };
  if (name == "bool") return make(dtype_code::Bool, 8);
  if (name == "bfloat16") return make(dtype_code::Bfloat, 16);
  const bool is_unsigned = name.starts_with("uint");
  const std::string digits = name.substr(name.find_first_of("0123456789"));
  const int bits = std::stoi(digits);
  if (name.starts_with("float")) return make(dtype_code::Float, bits);
  return make(is_unsigned ? dtype_code::UInt : dtype_code::Int, bits);
}

nb::capsule Keep(BatchPtr batch) {
  return nb::capsule(new BatchPtr(std::move(batch)),
                     [](void* p) noexcept { delete static_cast<BatchPtr*>(p); });
}

template <typename... Kind>
nb::object Tensor(const void* data, const std::vector<int64_t>& shape, const nb::capsule& owner,
                  nb::dlpack::dtype dtype) {
  std::vector<size_t> extents(shape.begin(), shape.end());
  const nb::ndarray<Kind...> array(const_cast<void*>(data), extents.size(), extents.data(), owner, nullptr,
                                   dtype);
  return nb::cast(array, nb::rv_policy::reference);
}

nb::object Numpy(const void* data, const std::vector<int64_t>& shape, const nb::capsule& owner,
                 const std::string& dtype) {
  // numpy has no bfloat16: those arrive as an object that speaks DLPack.
  if (dtype == "bfloat16") return Tensor<nb::array_api>(data, shape, owner, DtypeOf(dtype));
  return Tensor<nb::numpy>(data, shape, owner, DtypeOf(dtype));
}

nb::object Values(const stream::BatchColumn& column) {
  if (column.values->type_id() == arrow::Type::STRING) {
    const auto& text = static_cast<const arrow::StringArray&>(*column.values);
    nb::object list = nb::steal(PyList_New(text.length()));
    for (int64_t i = 0; i < text.length(); ++i) {
      nb::object cell = nb::none();
      if (!text.IsNull(i)) {
        const auto view = text.GetView(i);
        cell = nb::steal(PyUnicode_DecodeUTF8(view.data(), static_cast<Py_ssize_t>(view.size()), "replace"));
      }
      PyList_SetItem(list.ptr(), i, cell.release().ptr());
    }
    return list;
  }
  const RowBatch cells{
      arrow::RecordBatch::Make(arrow::schema({arrow::field(column.name, column.values->type())}),
                               column.values->length(), {column.values}),
      nullptr};
  nb::list list;
  for (int64_t i = 0; i < column.values->length(); ++i) list.append(Cell(cells, 0, i));
  return list;
}

nb::dict ColumnsToDict(const BatchPtr& batch) {
  const nb::capsule owner = Keep(batch);
  const std::vector<int64_t> rows{batch->rows};
  nb::dict dict;
  for (const auto& column : batch->columns) {
    if (column.data) {
      dict[column.name.c_str()] = Numpy(column.data->data(), column.shape, owner, column.dtype);
    } else if (column.values) {
      dict[column.name.c_str()] = Values(column);
    } else {
      nb::list blobs;
      for (const auto& blob : column.blobs) {
        if (!blob) {
          blobs.append(nb::none());
          continue;
        }
        static const uint8_t kEmpty = 0;
        const size_t size[1] = {static_cast<size_t>(blob->size())};
        const nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>> bytes(
            blob->size() > 0 ? blob->data() : &kEmpty, 1, size, owner);
        blobs.append(nb::cast(bytes, nb::rv_policy::reference));
      }
      dict[column.name.c_str()] = blobs;
    }
  }
  if (!batch->documents.empty()) {
    nb::list documents;
    for (const auto& row : batch->documents) documents.append(nb::cast(row));
    dict["documents"] = documents;
  }
  dict["valid"] = Numpy(batch->valid.data(), rows, owner, "bool");
  dict["position"] = Numpy(batch->position.data(), rows, owner, "int64");
  dict["row_id"] = Numpy(batch->row_id.data(), rows, owner, "int64");
  if (!batch->source.empty()) dict["source"] = Numpy(batch->source.data(), rows, owner, "int32");
  return dict;
}

struct StreamHandle {
  std::shared_ptr<stream::Stream> held;
  // A share of its own for each call: close() in another thread drops only the handle's.
  std::shared_ptr<stream::Stream> operator->() const {
    if (!held) Raise(Status::Invalid("the stream is closed"));
    return held;
  }
};

struct StreamBatch {
  BatchPtr held;
};

template <typename T>
void Take(const nb::dict& options, const char* name, T* out) {
  if (options.contains(name)) *out = nb::cast<T>(options[name]);
}

// A tokenizer of another module; the capsule stays alive as long as a stream has it.
class ForeignTokenizer final : public stream::Tokenizer {
 public:
  explicit ForeignTokenizer(nb::capsule capsule)
      : capsule_(capsule.release().ptr()),
        functions_(static_cast<const TokenizerFunctions*>(
            PyCapsule_GetPointer(capsule_, TokenizerFunctions::kCapsule))) {
    if (functions_ == nullptr) throw nb::python_error();
  }
  ~ForeignTokenizer() override {
    if (!nb::is_alive()) return;
    const nb::gil_scoped_acquire held;
    Py_DECREF(capsule_);
  }
  Result<std::vector<int32_t>> Tokenize(std::string_view text) const override {
    struct Made {
      std::vector<int32_t> tokens;
      Status status;
    } made;
    functions_->tokenize(
        functions_->self, text.data(), static_cast<int64_t>(text.size()), &made,
        [](void* to, const int32_t* tokens, int64_t count) {
          static_cast<Made*>(to)->tokens.assign(tokens, tokens + count);
        },
        [](void* to, const char* why) { static_cast<Made*>(to)->status = Status::Invalid(why); });
    HEADRACE_TRY(made.status);
    return std::move(made.tokens);
  }
  uint64_t hash() const override { return functions_->hash; }

 private:
  PyObject* capsule_;
  const TokenizerFunctions* functions_;
};

stream::StreamOptions OptionsOf(const nb::dict& options) {
  stream::StreamOptions o;
  Take(options, "columns", &o.columns);
  Take(options, "images", &o.images);
  Take(options, "batch_size", &o.batch);
  Take(options, "seed", &o.seed);
  Take(options, "rank", &o.rank);
  Take(options, "world_size", &o.world);
  Take(options, "local_rank", &o.local_rank);
  Take(options, "local_world_size", &o.local_world);
  Take(options, "epochs", &o.epochs);
  Take(options, "shuffle", &o.shuffle);
  Take(options, "window", &o.window);
  Take(options, "lanes", &o.lanes);
  Take(options, "block", &o.block);
  Take(options, "weights", &o.weights);
  Take(options, "threads", &o.threads);
  Take(options, "memory", &o.memory_bytes);
  Take(options, "prefetch", &o.prefetch);
  Take(options, "cache", &o.cache);
  Take(options, "cache_size", &o.cache_bytes);
  Take(options, "store_deadline", &o.deadline_seconds);
  Take(options, "worker", &o.worker);
  Take(options, "workers", &o.workers);
  Take(options, "pack_tokens", &o.pack.tokens);
  Take(options, "pack_lengths", &o.pack.lengths);
  Take(options, "pack_length", &o.pack.length);
  Take(options, "pack_window", &o.pack.window);
  Take(options, "pack_truncate", &o.pack.truncate);
  if (options.contains("pack_tokenizer"))
    o.pack.tokenizer = std::make_shared<ForeignTokenizer>(nb::cast<nb::capsule>(options["pack_tokenizer"]));
  std::vector<std::pair<int64_t, std::vector<double>>> stages;
  Take(options, "mixture", &stages);
  for (auto& [start, weights] : stages) o.mixture.push_back({start, std::move(weights)});
  const auto choose = [&](const char* name, auto* out, const auto& choices) {
    std::string chosen;
    Take(options, name, &chosen);
    if (chosen.empty()) return;
    std::string known;
    for (const auto& [word, value] : choices) {
      if (chosen == word) {
        *out = value;
        return;
      }
      known += (known.empty() ? "" : ", ") + std::string(word);
    }
    Raise(Status::Invalid(std::string(name) + " is '" + chosen + "'; it may be " + known));
  };
  using stream::EpochEnd;
  using stream::Exhaust;
  using stream::OnError;
  choose("epoch_end", &o.end,
         std::vector<std::pair<const char*, EpochEnd>>{{"pad", EpochEnd::kPad},
                                                       {"drop", EpochEnd::kDrop},
                                                       {"short", EpochEnd::kShort},
                                                       {"wrap", EpochEnd::kWrap}});
  choose("on_error", &o.on_error,
         std::vector<std::pair<const char*, OnError>>{
             {"raise", OnError::kRaise}, {"mask", OnError::kMask}, {"substitute", OnError::kSubstitute}});
  choose("stop", &o.exhaust,
         std::vector<std::pair<const char*, Exhaust>>{
             {"never", Exhaust::kRepeat}, {"first", Exhaust::kStopAtFirst}, {"last", Exhaust::kStopAtLast}});
  return o;
}

nb::dict StatsToDict(const stream::StreamStats& s) {
  nb::dict dict;
  dict["samples"] = s.samples;
  dict["batches"] = s.batches;
  dict["seconds"] = s.seconds;
  dict["waited_seconds"] = s.waited_seconds;
  dict["decode_seconds"] = s.decode_seconds;
  dict["fetch_seconds"] = s.fetch_seconds;
  dict["threads"] = s.threads;
  dict["media_bytes"] = s.media_bytes;
  dict["batch_bytes"] = s.batch_bytes;
  dict["chunk_hits"] = s.chunk_hits;
  dict["chunk_misses"] = s.chunk_misses;
  dict["cache_hit_bytes"] = s.cache_hits;
  dict["cache_miss_bytes"] = s.cache_misses;
  dict["bad"] = s.bad;
  dict["bad_rows"] = s.bad_rows;
  dict["packed_tokens"] = s.packed_tokens;
  dict["packed_slots"] = s.packed_slots;
  dict["memory_bytes"] = s.memory_bytes;
  dict["memory_peak"] = s.memory_peak;
  dict["bottleneck"] = s.bottleneck;
  return dict;
}

// A table by where it is, whatever it is called by now.
Result<table::Table> Reopen(const std::string& location, const std::string& prefix, const std::string& name) {
  HEADRACE_ASSIGN(const auto catalog, table::Catalog::Open(location));
  KeepInChild(catalog->environment());
  std::string_view id = prefix;
  id.remove_suffix(1);
  HEADRACE_ASSIGN(const Uuid uuid, Uuid::Parse(id.substr(id.rfind('/') + 1)));
  return table::Table(catalog->environment(), name, uuid);
}

// A version that may have expired since it was opened: who opened it holds it, for its workers too.
Result<table::View> ReopenView(const std::string& location, const std::string& prefix, int64_t version) {
  HEADRACE_ASSIGN(const auto found, Reopen(location, prefix, "the table"));
  table::SnapshotLog log(found.environment(), found.prefix());
  HEADRACE_ASSIGN(auto snapshot, log.Read(version));
  return table::View(found.environment(), found.prefix(), std::move(snapshot));
}

}  // namespace

void BindStream(nb::module_& m) {
  nb::class_<StreamBatch>(m, "StreamBatch")
      .def("to_dict", [](const StreamBatch& b) { return ColumnsToDict(b.held); })
      .def_prop_ro("state", [](const StreamBatch& b) { return b.held->after.ToJson(); })
      .def("arrow_array",
           [](const StreamBatch& b) { return ExportBatch(*Check(stream::BatchToArrow(b.held))); });
  nb::class_<StreamHandle>(m, "Stream")
      .def_static(
          "open",
          [](const std::vector<std::pair<table::View, std::string>>& inputs, const nb::dict& options) {
            stream::StreamOptions parsed = OptionsOf(options);
            std::vector<stream::StreamInput> sources;
            for (const auto& [view, where] : inputs) sources.push_back({view, where});
            auto made = Check(Interruptible([&](const StopToken& stop) {
              parsed.stop = stop;
              return stream::Stream::Open(sources, parsed);
            }));
            std::shared_ptr<stream::Stream> held = std::move(made);
            KeepInChild(held);
            return StreamHandle{std::move(held)};
          })
      .def("next",
           [](const StreamHandle& s) -> std::optional<StreamBatch> {
             bool raised = false;
             std::shared_ptr<stream::Stream> shared = s.operator->();
             auto next = [&] {
               const nb::gil_scoped_release release;
               const auto held = std::move(shared);  // where it is the last, it ends without the GIL
               return held->Next([&] {
                 const nb::gil_scoped_acquire acquire;
                 raised = PyErr_CheckSignals() != 0;
                 return raised;
               });
             }();
             if (raised) throw nb::python_error();
             auto batch = Check(std::move(next));
             if (!batch) return std::nullopt;
             return StreamBatch{std::move(batch)};
           })
      .def("close",
           [](StreamHandle& s) {
             auto held = std::move(s.held);  // under the GIL, as every other look at it
             const nb::gil_scoped_release release;
             held.reset();
           })
      .def("state", [](const StreamHandle& s) { return s->state().ToJson(); })
      .def("load",
           [](const StreamHandle& s, const std::string& json) {
             const auto state = Check(stream::State::FromJson(json));
             auto held = s.operator->();
             const Status loaded = Interruptible([&](const StopToken&) { return held->Load(state); });
             {
               const nb::gil_scoped_release release;
               held.reset();
             }
             Check(loaded);
           })
      .def("stats", [](const StreamHandle& s) { return StatsToDict(s->stats()); })
      .def_prop_ro("length", [](const StreamHandle& s) { return s->length(); })
      .def_prop_ro("steps_left", [](const StreamHandle& s) { return s->steps_left(); })
      .def_prop_ro("steps_of_epoch", [](const StreamHandle& s) { return s->steps_of_epoch(); })
      .def("plan", [](const StreamHandle& s, int64_t count) {
        nb::list list;
        for (const auto& sample : Check(s->Plan(count))) {
          list.append(nb::make_tuple(sample.point.epoch, sample.point.position, sample.source, sample.ordinal,
                                     sample.row_id));
        }
        return list;
      });
  m.def("reopen_view", [](const std::string& location, const std::string& prefix, int64_t version) {
    return Check(Interruptible([&](const StopToken&) { return ReopenView(location, prefix, version); }));
  });
  m.def("reopen_table", [](const std::string& location, const std::string& prefix, const std::string& name) {
    return Check(Interruptible([&](const StopToken&) { return Reopen(location, prefix, name); }));
  });
}

}  // namespace headrace::python
