// The engine for Python: models, answers as streams, embeddings. A module of its own, so that `import
// headrace` does not load an inference library.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <mutex>
#include <tuple>

#include "base/utf8.h"
#include "bridge.h"
#include "engine/chat_session.h"
#include "engine/embedder.h"
#include "engine/engine.h"
#include "engine/pair_scores.h"
#include "registry/registry.h"
#include "tokenizer.h"

namespace headrace::python {
namespace {

// A model with the engine and the embedder over it, started when first needed; all share one compute lease.
struct ModelHandle {
  std::shared_ptr<engine::ChatSession> session;
  int adapter = -1;  // of requests that name none
  engine::EngineOptions options;
  std::shared_ptr<engine::Engine> engine;  // its readers hold it too
  std::unique_ptr<engine::Embedder> embedder;
  std::mutex mutex;

  const model::Model& model() const { return session->model(); }
  Result<std::shared_ptr<engine::Engine>> Engine() {
    const std::lock_guard lock(mutex);
    if (!engine) {
      HEADRACE_ASSIGN(engine, engine::Engine::Start(session->shared_model(), options));
    }
    return engine;
  }
  // A context knows the adapters that there were when it was made: the next request has a new one. What runs
  // keeps its own.
  Result<int> LoadAdapter(const std::string& path, float scale) {
    const std::lock_guard lock(mutex);
    HEADRACE_ASSIGN(const int index, session->LoadAdapter(path, scale));
    engine.reset();
    return index;
  }
  Result<engine::Embedder*> Embedder() {
    const std::lock_guard lock(mutex);
    if (adapter >= 0)
      return Status::Unsupported("this is an adapter, and adapters change no vectors here: name its model");
    if (!embedder) {
      HEADRACE_ASSIGN(embedder, engine::Embedder::Start(session->shared_model(),
                                                        {.threads = options.decoder.threads}, options.lease));
    }
    return embedder.get();
  }
};

nb::dict UsageDict(const engine::Usage& u) {
  nb::dict d;
  d["prompt_tokens"] = u.prompt_tokens;
  d["cached_tokens"] = u.cached_tokens;
  d["answer_tokens"] = u.answer_tokens;
  d["forced_tokens"] = u.forced_tokens;
  d["drafted_tokens"] = u.drafted_tokens;
  d["accepted_tokens"] = u.accepted_tokens;
  d["preemptions"] = u.preemptions;
  d["queue_seconds"] = u.queue_seconds;
  d["prefill_seconds"] = u.prefill_seconds;
  d["decode_seconds"] = u.decode_seconds;
  d["grammar_seconds"] = u.grammar_seconds;
  return d;
}

// Runs `work` without the GIL; errors are raised with it.
template <typename Fn>
auto Unlocked(Fn work) -> decltype(work()) {
  const nb::gil_scoped_release released;
  return work();
}

struct AnswerReader {
  std::shared_ptr<engine::Engine> engine;
  std::shared_ptr<engine::Stream> stream;
};

// The next piece as (text, tokens, logprobs, finish, stop, usage), None after the last.
nb::object Next(AnswerReader* reader) {
  std::optional<engine::Delta> delta = reader->stream->TryNext();
  if (!delta) {  // it is to be waited for, or was the last
    delta = Interruptible([&](const StopToken& stop) {
      const StopCallback on_stop(stop, [&] { reader->stream->Cancel(); });
      return reader->stream->Next();
    });
  }
  if (!delta) return nb::none();
  if (!delta->error.ok()) Raise(delta->error);
  nb::list tokens, logprobs;
  for (const engine::TokenOut& token : delta->tokens) {
    tokens.append(token.token);
    nb::list top;
    for (const engine::LogProb& one : token.top) top.append(nb::make_tuple(one.token, one.logprob));
    logprobs.append(nb::make_tuple(token.logprob, top));
  }
  const bool ends = delta->finish != engine::Finish::kNone;
  return nb::make_tuple(nb::str(delta->text.data(), delta->text.size()), tokens, logprobs,
                        std::string(engine::FinishName(delta->finish)), delta->stop,
                        ends ? nb::object(UsageDict(delta->usage)) : nb::none());
}

template <typename T>
void Maybe(const nb::dict& from, const char* name, T* to) {
  if (!from.contains(name) || from[name].is_none()) return;
  try {
    *to = nb::cast<T>(from[name]);
  } catch (const nb::cast_error&) {
    Raise(Status::Invalid(std::string("'") + name +
                          "' has a value of the wrong type: " + nb::cast<std::string>(nb::repr(from[name]))));
  }
}

std::shared_ptr<AnswerReader> Submit(ModelHandle* handle, const nb::object& prompt, const nb::dict& from) {
  engine::Request request;
  request.adapter = handle->adapter;
  if (nb::isinstance<nb::str>(prompt)) {
    request.prompt = Check(handle->session->Text(nb::cast<std::string>(prompt)));
  } else {
    const auto list = nb::cast<nb::list>(prompt);
    if (nb::len(list) > 0 && nb::isinstance<nb::dict>(list[0])) {
      std::vector<model::Message> messages;
      for (const nb::handle one : list) {
        const auto message = nb::cast<nb::dict>(one);
        if (!message.contains("role") || !message.contains("content"))
          Raise(Status::Invalid("a message has a role and a content"));
        messages.push_back(
            {nb::cast<std::string>(message["role"]), nb::cast<std::string>(message["content"])});
      }
      Check(handle->session->Chat(std::move(messages))).MoveInto(&request);
    } else {
      request.prompt = nb::cast<std::vector<model::Token>>(list);
    }
  }
  engine::Sampling& s = request.sampling;
  Maybe(from, "max_tokens", &request.max_tokens);
  Maybe(from, "temperature", &s.temperature);
  Maybe(from, "top_p", &s.top_p);
  Maybe(from, "top_k", &s.top_k);
  Maybe(from, "min_p", &s.min_p);
  Maybe(from, "repetition_penalty", &s.repetition_penalty);
  Maybe(from, "frequency_penalty", &s.frequency_penalty);
  Maybe(from, "presence_penalty", &s.presence_penalty);
  Maybe(from, "seed", &s.seed);
  Maybe(from, "logit_bias", &s.logit_bias);
  Maybe(from, "stop", &request.stops);
  Maybe(from, "logprobs", &request.top_logprobs);
  Maybe(from, "key", &request.key);
  Maybe(from, "priority", &request.priority);
  Maybe(from, "timeout", &request.timeout);
  Maybe(from, "ignore_end", &request.ignore_end);
  Maybe(from, "adapter", &request.adapter);
  std::string text;
  using Kind = engine::Structure::Kind;
  for (const auto& [name, kind] : std::initializer_list<std::pair<const char*, Kind>>{
           {"schema", Kind::kSchema}, {"regex", Kind::kRegex}, {"grammar", Kind::kGrammar}}) {
    text.clear();
    Maybe(from, name, &text);
    if (!text.empty()) request.structure = {kind, text};
  }
  if (nb::isinstance<nb::str>(prompt)) request.EndPlainText();
  const std::shared_ptr<engine::Engine> engine = Check(Unlocked([&] { return handle->Engine(); }));
  return std::make_shared<AnswerReader>(AnswerReader{engine, Check(engine->Submit(std::move(request)))});
}

// A schema over a vocabulary of the 256 bytes: what tests hold against an independent validator.
struct ByteGrammar {
  std::shared_ptr<const engine::CompiledGrammar> grammar;

  static std::shared_ptr<ByteGrammar> Make(const std::string& schema) {
    std::vector<std::string> pieces;
    for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
    pieces.emplace_back("");
    auto result = std::make_shared<ByteGrammar>();
    result->grammar = Check(
        engine::Grammars(std::move(pieces), {kEnd}).Compile({engine::Structure::Kind::kSchema, schema}));
    return result;
  }
  bool Accepts(const nb::bytes& text) const {
    const auto matcher = engine::Grammars::Match(grammar);
    for (size_t i = 0; i < text.size(); ++i)
      if (!matcher->Accept(static_cast<unsigned char>(text.c_str()[i]))) return false;
    return matcher->Accept(kEnd);
  }
  // A text of the grammar, byte by byte at random; after `most` bytes whatever closes is preferred. None if
  // it never ended.
  std::optional<nb::bytes> Walk(uint64_t seed, int most) const {
    const auto matcher = engine::Grammars::Match(grammar);
    std::vector<int32_t> mask(9);
    std::string text;
    for (uint64_t n = 0; n < static_cast<uint64_t>(most) + 300; ++n) {
      if (!matcher->Mask(mask)) return std::nullopt;
      std::vector<model::Token> may, closing;
      for (model::Token t = 0; t <= kEnd; ++t) {
        if (((mask[static_cast<size_t>(t) / 32] >> (t % 32)) & 1) == 0) continue;
        may.push_back(t);
        if (t == kEnd || t == '"' || t == '}' || t == ']') closing.push_back(t);
      }
      if (may.empty()) return std::nullopt;
      const bool close =
          !closing.empty() && (n > static_cast<uint64_t>(most) || engine::Uniform(seed, 2 * n) < 0.3);
      const std::vector<model::Token>& from = close ? closing : may;
      const model::Token token =
          from[static_cast<size_t>(engine::Uniform(seed, 2 * n + 1) * static_cast<double>(from.size()))];
      if (!matcher->Accept(token)) return std::nullopt;
      if (token == kEnd) return nb::bytes(text.data(), text.size());
      text += static_cast<char>(token);
    }
    return std::nullopt;
  }
  static constexpr model::Token kEnd = 256;
};

constexpr char kOwnAdapter[] = "";  // the name of that of a model which is an adapter's name

// A model by its file or its name in a catalog, or an adapter by its. Without the GIL.
std::shared_ptr<engine::ChatSession> OpenSession(const std::string& name,
                                                 const std::optional<std::string>& catalog,
                                                 engine::SessionOptions options) {
  return Check(Unlocked([&]() -> Result<std::shared_ptr<engine::ChatSession>> {
    std::shared_ptr<table::Catalog> opened;
    if (catalog) {
      HEADRACE_ASSIGN(opened, table::Catalog::Open(*catalog));
    }
    HEADRACE_ASSIGN(const registry::ModelFiles files, registry::FindModelFiles(name, opened));
    if (!files.adapter.empty() && !options.load.vocabulary_only)
      options.adapters = {{kOwnAdapter, files.adapter}};
    return engine::ChatSession::Open(files.path, options);
  }));
}

struct TokenizerParts {
  std::shared_ptr<const model::Model> model;
  bool begin, end, parse;
  TokenizerFunctions functions;
};

// A model's tokenizer for streams: `begin` with the token that the model wants at a text's beginning, `end`
// with its end of text, `parse` names of control tokens in the text.
nb::capsule MakeTokenizer(const std::string& name, const std::optional<std::string>& catalog, bool begin,
                          bool end, bool parse) {
  auto parts = std::make_unique<TokenizerParts>();
  parts->model = OpenSession(name, catalog, {.load = {.vocabulary_only = true}})->shared_model();
  if (end && parts->model->eos() < 0)
    Raise(Status::Unsupported(parts->model->path() + " has no end-of-text token; give end=False"));
  parts->begin = begin;
  parts->end = end;
  parts->parse = parse;
  TokenizerFunctions& f = parts->functions;
  f.self = parts.get();
  f.hash = parts->model->TokenizerHash() + (begin ? 1 : 0) + (end ? 2 : 0) + (parse ? 4 : 0);
  f.tokenize = [](void* self, const char* text, int64_t bytes, void* to, TokenizerFunctions::Give give,
                  TokenizerFunctions::Fail fail) {
    const auto& p = *static_cast<const TokenizerParts*>(self);
    auto tokens = p.model->Tokenize({text, static_cast<size_t>(bytes)}, p.begin, p.parse);
    if (!tokens.ok()) return fail(to, tokens.status().message().c_str());
    if (p.end && (tokens->empty() || tokens->back() != p.model->eos())) tokens->push_back(p.model->eos());
    give(to, tokens->data(), static_cast<int64_t>(tokens->size()));
  };
  f.free = [](void* self) { delete static_cast<TokenizerParts*>(self); };
  return nb::capsule(&parts.release()->functions, TokenizerFunctions::kCapsule, [](void* p) noexcept {
    const auto* functions = static_cast<TokenizerFunctions*>(p);
    functions->free(functions->self);
  });
}

nb::dict FactsOf(ModelHandle* handle) {
  const model::Facts& f = handle->model().facts();
  nb::dict d;
  d["name"] = f.name;
  d["architecture"] = f.architecture;
  d["quantization"] = f.quantization;
  d["licence"] = f.licence;
  d["parameters"] = f.parameters;
  d["weight_bytes"] = f.weight_bytes;
  d["context"] = f.trained_context;
  d["vocabulary"] = f.vocabulary;
  d["memory"] = std::string(model::MemoryName(f.memory));
  d["window"] = f.window;
  d["kv_bytes_per_token"] = f.kv_bytes_per_token;
  d["chat_template"] = handle->model().template_source();
  d["path"] = handle->model().path();
  return d;
}

nb::dict StatsOf(ModelHandle* handle) {
  const engine::CoreStats s = Check(Unlocked([&] { return handle->Engine(); }))->stats();
  nb::dict d;
  d["requests"] = s.requests;
  d["steps"] = s.steps;
  d["prompt_tokens"] = s.prompt_tokens;
  d["cached_tokens"] = s.cached_tokens;
  d["prefilled_tokens"] = s.prefill_rows;
  d["answer_tokens"] = s.answer_tokens;
  d["drafted"] = s.drafted;
  d["accepted"] = s.accepted;
  d["forced"] = s.forced;
  d["cells"] = s.cells;
  d["cells_used"] = s.cells_used;
  d["evictions"] = s.evictions;
  d["preemptions"] = s.preemptions;
  return d;
}

// What a model's name in the catalog, or a path, stands for: its file, its name ("" of a path), and the hash
// of its weights ("").
std::tuple<std::string, std::string, std::string> FindModel(const std::string& name,
                                                            const std::string& location) {
  const registry::ModelFiles files = Check(Unlocked([&]() -> Result<registry::ModelFiles> {
    HEADRACE_ASSIGN(const auto catalog, table::Catalog::Open(location));
    return registry::FindModelFiles(name, catalog);
  }));
  if (!files.adapter.empty())
    Raise(Status::Invalid("'" + name + "' is an adapter of '" + files.entry.name + "': name the model here"));
  return {files.path, files.entry.name, files.entry.sha256};
}

// (texts, width), float32.
nb::ndarray<nb::numpy, float, nb::ndim<2>> Embed(ModelHandle* handle, const std::vector<std::string>& texts,
                                                 bool normalise, bool cut) {
  auto* result = new engine::Embeddings(Check(Unlocked([&]() -> Result<engine::Embeddings> {
    HEADRACE_ASSIGN(engine::Embedder * embedder, handle->Embedder());
    return embedder->Embed(texts, {.normalise = normalise, .cut = cut ? -1 : 0});
  })));
  const nb::capsule owner(result, [](void* p) noexcept { delete static_cast<engine::Embeddings*>(p); });
  return nb::ndarray<nb::numpy, float, nb::ndim<2>>(
      result->values.data(), {texts.size(), static_cast<size_t>(result->width)}, owner);
}

// Registers an adapter's file as "base:name", which it gives. `source` is where it came from, `base_sha256`
// the weights that it was made for.
std::string AddAdapter(const std::string& location, const std::string& path, const std::string& base,
                       const std::string& name, const std::string& why, const std::string& source,
                       const std::string& base_sha256) {
  return Check(Unlocked([&]() -> Result<std::string> {
    HEADRACE_ASSIGN(const auto catalog, table::Catalog::Open(location));
    registry::AddOptions options;
    options.who = table::DefaultWho();
    options.why = why;
    options.source = source;
    options.base_sha256 = base_sha256;
    HEADRACE_ASSIGN(const registry::Entry entry,
                    registry::Registry(catalog).AddAdapter(path, base, name, options));
    return entry.name;
  }));
}

}  // namespace

NB_MODULE(_engine, m) {
  nb::set_leak_warnings(false);  // as in _native
  m.def("tokenizer", &MakeTokenizer);
  m.def("find_model", &FindModel);
  m.def("add_adapter", &AddAdapter);
  nb::class_<ByteGrammar>(m, "ByteGrammar")
      .def("accepts", &ByteGrammar::Accepts)
      .def("walk", &ByteGrammar::Walk);
  m.def("byte_grammar", &ByteGrammar::Make);
  nb::class_<AnswerReader>(m, "AnswerReader").def("next", &Next).def("cancel", [](AnswerReader* reader) {
    reader->stream->Cancel();
  });
  nb::class_<ModelHandle>(m, "Model")
      .def("submit", &Submit)
      .def("facts", &FactsOf)
      .def("tokenize",
           [](ModelHandle* handle, const std::string& text, bool special, bool parse) {
             return Check(Unlocked([&] { return handle->model().Tokenize(text, special, parse); }));
           })
      .def("detokenize",
           [](ModelHandle* handle, const std::vector<model::Token>& tokens) {
             const std::string text = CleanUtf8(handle->model().Detokenize(tokens));
             return nb::str(text.data(), text.size());
           })
      .def("render",
           [](ModelHandle* handle, const std::vector<std::pair<std::string, std::string>>& messages) {
             std::vector<model::Message> list;
             for (const auto& [role, content] : messages) list.push_back({role, content});
             return Check(handle->session->Render(std::move(list))).text();
           })
      .def("embed", &Embed)
      .def("rerank",
           [](ModelHandle* handle, const std::string& query, const std::vector<std::string>& documents,
              bool cut) {
             return Check(Unlocked([&]() -> Result<std::vector<double>> {
               HEADRACE_ASSIGN(engine::Embedder * embedder, handle->Embedder());
               return engine::ScoreDocuments(*handle->session, embedder, query, documents, cut);
             }));
           })
      .def("load_adapter",
           [](ModelHandle* handle, const std::string& path, float scale) {
             return Check(Unlocked([&] { return handle->LoadAdapter(path, scale); }));
           })
      .def("stats", &StatsOf)
      .def("close", [](ModelHandle* handle) {
        const nb::gil_scoped_release released;
        const std::lock_guard lock(handle->mutex);
        if (handle->engine) handle->engine->Stop();
        handle->engine.reset();
        handle->embedder.reset();
      });
  m.def("load", [](const std::string& name, const std::optional<std::string>& catalog, const nb::dict& from) {
    auto handle = std::make_shared<ModelHandle>();
    engine::EngineOptions& o = handle->options;
    Maybe(from, "context", &o.decoder.cells);
    Maybe(from, "threads", &o.decoder.threads);
    Maybe(from, "slots", &o.core.slots);
    Maybe(from, "max_itl", &o.core.max_gap);
    Maybe(from, "deterministic", &o.core.deterministic);
    Maybe(from, "lookup", &o.core.lookup);
    o.lease = std::make_shared<engine::ComputeLease>();
    engine::SessionOptions session;
    session.replace_template = true;
    session.context = o.decoder.cells;
    Maybe(from, "chat_template", &session.chat_template);
    Maybe(from, "gpu_layers", &session.load.gpu_layers);
    Maybe(from, "devices", &session.load.devices);
    handle->session = OpenSession(name, catalog, session);
    const auto& adapters = handle->session->adapters();
    if (const auto own = adapters.find(kOwnAdapter); own != adapters.end()) handle->adapter = own->second;
    return handle;
  });
}

}  // namespace headrace::python
