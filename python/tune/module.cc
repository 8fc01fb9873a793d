// The trainer for Python: one step of a model that is tuned, and its state as arrays. A module of its own, so
// that `import headrace` does not load what products of matrices need.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <arrow/api.h>

#include "bridge.h"
#include "model/model.h"
#include "tune/samples.h"
#include "tune/trainer.h"

namespace headrace::python {
namespace {

using tune::Trainer;
using tune::TrainerOptions;
using Floats = nb::ndarray<nb::numpy, float, nb::ndim<2>>;
using Int32s = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Int64s = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Array>
auto VectorOf(const Array& array) {
  return std::vector<std::remove_const_t<typename Array::Scalar>>(array.data(), array.data() + array.size());
}

// A copy that Python owns.
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> Owned(const std::vector<T>& values) {
  auto* kept = new std::vector<T>(values);
  const nb::capsule owner(kept, [](void* held) noexcept { delete static_cast<std::vector<T>*>(held); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
}

nn::Batch BatchOf(const Int32s& tokens, const Int64s& starts, const Int32s& targets) {
  return {VectorOf(tokens), VectorOf(starts), VectorOf(targets)};
}

// Precision "auto", "f32" or "bf16".
std::unique_ptr<Trainer> Open(const std::string& path, const std::string& precision, int64_t context,
                              int64_t rank, float scale, bool attention, bool gated, std::vector<float> adam,
                              uint64_t seed, int threads) {
  TrainerOptions options;
  options.path = path;
  if (precision != "auto") options.type = precision == "bf16" ? nn::DType::kBF16 : nn::DType::kF32;
  options.context = context;
  options.adapters = {.rank = rank, .scale = scale, .attention = attention, .gated = gated};
  options.optimizer = {.beta1 = adam.at(0), .beta2 = adam.at(1), .epsilon = adam.at(2), .decay = adam.at(3)};
  options.seed = seed;
  options.threads = threads;
  const nb::gil_scoped_release released;
  auto opened = Trainer::Open(options);
  const nb::gil_scoped_acquire acquired;
  return Check(std::move(opened));
}

// Tokens of the longest document that a model file was made for.
int64_t TrainedContext(const std::string& path) {
  const auto file = Check(model::TensorFile::Open(path));
  const std::string name = file->Text("general.architecture").value_or("");
  return static_cast<int64_t>(file->Number(name + ".context_length").value_or(0));
}

nb::dict FactsOf(const Trainer& trainer) {
  nb::dict facts;
  facts["precision"] = trainer.type() == nn::DType::kBF16 ? "bf16" : "f32";
  facts["threads"] = trainer.threads();
  facts["layers"] = trainer.shape().layers;
  facts["width"] = trainer.shape().block.width;
  facts["vocabulary"] = trainer.shape().vocabulary;
  facts["context"] = trainer.shape().context;
  return facts;
}

// (sum, rows) of the loss that `work` finds of a batch.
template <typename Work>
std::pair<double, int64_t> LossOf(const Int32s& tokens, const Int64s& starts, const Int32s& targets,
                                  const Work& work) {
  const nn::Batch batch = BatchOf(tokens, starts, targets);
  Result<nn::BatchLoss> loss = nn::BatchLoss{};
  {
    const nb::gil_scoped_release released;
    loss = work(batch);
  }
  const nn::BatchLoss found = Check(std::move(loss));
  return {found.sum, found.rows};
}

std::pair<double, int64_t> Step(Trainer* trainer, const Int32s& tokens, const Int64s& starts,
                                const Int32s& targets, float scale) {
  return LossOf(tokens, starts, targets, [&](const nn::Batch& batch) { return trainer->Step(batch, scale); });
}

std::pair<double, int64_t> Evaluate(Trainer* trainer, const Int32s& tokens, const Int64s& starts,
                                    const Int32s& targets) {
  return LossOf(tokens, starts, targets, [&](const nn::Batch& batch) { return trainer->Evaluate(batch); });
}

double Update(Trainer* trainer, double rate, double clip) {
  const nb::gil_scoped_release released;
  return trainer->Update(rate, clip);
}

// (name, values): the values are the trainer's own memory.
nb::list Parameters(nb::handle self) {
  nb::list list;
  for (nn::Parameter* parameter : nb::cast<Trainer*>(self)->parameters()) {
    const size_t shape[2] = {static_cast<size_t>(parameter->rows), static_cast<size_t>(parameter->columns)};
    list.append(nb::make_tuple(parameter->name, Floats(parameter->values.data(), 2, shape, self)));
  }
  return list;
}

// (steps, [(first, second) of each parameter]): the moments are the trainer's own memory, as long as it makes
// no step.
nb::tuple Moments(nb::handle self) {
  auto* trainer = nb::cast<Trainer*>(self);
  nb::list list;
  const auto& moments = trainer->optimizer().moments();
  for (size_t i = 0; i < moments.size(); ++i) {
    const nn::Parameter* parameter = trainer->parameters()[i];
    const size_t shape[2] = {static_cast<size_t>(parameter->rows), static_cast<size_t>(parameter->columns)};
    const auto view = [&](const std::vector<float>& values) {
      return Floats(const_cast<float*>(values.data()), 2, shape, self);
    };
    list.append(nb::make_tuple(view(moments[i].first), view(moments[i].second)));
  }
  return nb::make_tuple(trainer->optimizer().steps(), list);
}

using Given = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
std::vector<float> ValuesOf(const nn::Parameter& parameter, const Given& given) {
  if (given.shape(0) != static_cast<size_t>(parameter.rows) ||
      given.shape(1) != static_cast<size_t>(parameter.columns))
    Raise(Status::Invalid(parameter.name + " is " + std::to_string(parameter.rows) + " x " +
                          std::to_string(parameter.columns) + " here, and " + std::to_string(given.shape(0)) +
                          " x " + std::to_string(given.shape(1)) + " in what is loaded"));
  return {given.data(), given.data() + given.size()};
}

void SetParameters(Trainer* trainer, const std::vector<Given>& values) {
  if (values.size() != trainer->parameters().size())
    Raise(Status::Invalid("what is loaded has another number of adapters"));
  for (size_t i = 0; i < values.size(); ++i) {
    std::vector<float> given = ValuesOf(*trainer->parameters()[i], values[i]);
    std::copy(given.begin(), given.end(), trainer->parameters()[i]->values.begin());
  }
  trainer->Refresh();
}

void SetMoments(Trainer* trainer, int64_t steps, const std::vector<std::pair<Given, Given>>& moments) {
  if (!moments.empty() && moments.size() != trainer->parameters().size())
    Raise(Status::Invalid("what is loaded has another number of moments"));
  std::vector<nn::AdamW::Moments> given;
  for (size_t i = 0; i < moments.size(); ++i) {
    const nn::Parameter& parameter = *trainer->parameters()[i];
    given.push_back({ValuesOf(parameter, moments[i].first), ValuesOf(parameter, moments[i].second)});
  }
  trainer->optimizer().Restore(steps, std::move(given));
}

// Samples of rows, and what was counted of them. For one thread at a time.
struct Maker {
  std::shared_ptr<const model::Model> model;
  std::unique_ptr<tune::SampleMaker> maker;
  tune::SampleCounts counts;
};

std::unique_ptr<Maker> MakeMaker(const std::string& path, const nb::dict& from) {
  const auto text = [&](const char* name) {
    return from[name].is_none() ? std::string() : nb::cast<std::string>(from[name]);
  };
  tune::SampleOptions options;
  options.columns = {text("messages"), text("prompt"), text("answer"), text("text")};
  options.system = text("system");
  options.roles = nb::cast<std::vector<std::string>>(from["roles"]);
  options.chat = nb::cast<bool>(from["chat"]);
  options.most = nb::cast<int64_t>(from["max_tokens"]);
  options.cut = text("cut") == "end"     ? tune::Cut::kEnd
                : text("cut") == "start" ? tune::Cut::kStart
                                         : tune::Cut::kDrop;
  options.broken = text("broken") == "drop" ? tune::OnBroken::kDrop : tune::OnBroken::kFail;
  options.chat_template = text("chat_template");
  auto made = std::make_unique<Maker>();
  made->model = Check(model::Model::Load(path, {.gpu_layers = 0, .vocabulary_only = true}));
  made->maker = Check(tune::SampleMaker::Make(made->model, options));
  return made;
}

// Of a stream's batch, by its rows: a list of samples each, (row id, tokens, which are learned). Rows that
// only fill the batch up are left out.
nb::list RowsOf(Maker* maker, nb::handle object) {
  const auto reader = ImportStream(object);
  std::shared_ptr<arrow::RecordBatch> read;
  if (!reader->ReadNext(&read).ok() || !read) Raise(Status::Invalid("that is no batch of a stream"));
  const auto made = Check(maker->maker->Rows(*read));
  nb::list rows;
  for (const tune::RowSamples& row : made) {
    if (row.dropped == tune::Dropped::kAbsent) continue;
    maker->counts.Add(row);
    nb::list samples;
    for (const tune::Sample& sample : row.samples) {
      samples.append(nb::make_tuple(sample.row_id, Owned(sample.tokens), Owned(sample.learn)));
    }
    rows.append(samples);
  }
  return rows;
}

nb::str RenderOf(Maker* maker, int64_t row_id, const Int32s& tokens,
                 const nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>& learn,
                 bool colours) {
  tune::Sample sample;
  sample.row_id = row_id;
  sample.tokens = VectorOf(tokens);
  sample.learn = VectorOf(learn);
  sample.whole = static_cast<int64_t>(sample.tokens.size());
  const std::string text = tune::Render(*maker->model, sample, colours);
  return nb::str(text.data(), text.size());
}

}  // namespace

NB_MODULE(_tune, m) {
  nb::set_leak_warnings(false);  // as in _native
  m.def("open", &Open, nb::arg("path"), nb::arg("precision"), nb::arg("context"), nb::arg("rank"),
        nb::arg("scale"), nb::arg("attention"), nb::arg("gated"), nb::arg("adam"), nb::arg("seed"),
        nb::arg("threads"));
  m.def("sample_maker", &MakeMaker);
  m.def("trained_context", &TrainedContext);
  nb::class_<Maker>(m, "SampleMaker")
      .def("columns", [](const Maker& maker) { return maker.maker->columns(); })
      .def("rows", &RowsOf)
      .def("render", &RenderOf)
      .def("counts", [](const Maker& maker) { return maker.counts.ToString(); });
  nb::class_<Trainer>(m, "Trainer")
      .def("facts", &FactsOf)
      .def("step", &Step)
      .def("evaluate", &Evaluate)
      .def("update", &Update)
      .def("clear", &Trainer::ClearGradients)
      .def("parameters", [](nb::handle self) { return Parameters(self); })
      .def("moments", [](nb::handle self) { return Moments(self); })
      .def("set_parameters", &SetParameters)
      .def("set_moments", &SetMoments)
      .def("write_adapter", [](const Trainer& trainer, const std::string& path, const std::string& name,
                               std::vector<std::pair<std::string, std::string>> texts) {
        Check(trainer.WriteAdapter(path, name, std::move(texts)));
      });
}

}  // namespace headrace::python
