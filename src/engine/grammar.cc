#include "engine/grammar.h"

#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include "base/json.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "engine/host_cache.h"
#include "engine/text_out.h"
#include "schema/json_schema.h"

namespace headrace::engine {

// The vocabulary as grammars need it.
struct Pieces {
  std::vector<std::string> pieces;
  std::vector<bool> silent;  // control tokens: they stand for nothing and never fit, ends apart

  Pieces(const std::vector<std::string>& all, const std::vector<Token>& ends)
      : pieces(all), silent(all.size()) {
    for (size_t t = 0; t < all.size(); ++t) silent[t] = all[t].empty();
    for (const Token end : ends) silent[static_cast<size_t>(end)] = false;
  }
};

class CompiledGrammar {
 public:
  CompiledGrammar(xgrammar::CompiledGrammar grammar, std::shared_ptr<const Pieces> pieces)
      : grammar(std::move(grammar)), pieces(std::move(pieces)) {}
  xgrammar::CompiledGrammar grammar;
  std::shared_ptr<const Pieces> pieces;
};

struct Grammars::State {
  std::vector<std::string> pieces;
  std::vector<Token> ends;
  std::mutex mutex;  // one compilation at a time; XGrammar's set-up of the vocabulary is done by the first
  std::optional<xgrammar::TokenizerInfo> tokenizer;
  std::optional<xgrammar::GrammarCompiler> compiler;
  std::shared_ptr<const Pieces> bytes;
  std::shared_ptr<HostCache> host;
  HostCache::Charge parts;  // what the compiler keeps
  std::string name;         // of the vocabulary, in the keys of the host cache

  std::string KeyOf(const Structure& structure) const {
    return name + std::to_string(static_cast<int>(structure.kind)) + " " + structure.text;
  }
  std::shared_ptr<const CompiledGrammar> Find(const Structure& structure) const {
    return std::static_pointer_cast<const CompiledGrammar>(host->FindGrammar(KeyOf(structure)));
  }
  // The compiler's own cache is counted; where there is no room for it, it is emptied.
  void CountParts() {
    parts = {};
    if (auto charge = host->TryCharge(HostCache::Kind::kCompiler, compiler->GetCacheSizeBytes())) {
      parts = std::move(*charge);
    } else {
      compiler->ClearCache();
    }
  }
};

namespace {

constexpr size_t kMostForced = 256;  // bytes: about as many as a step takes

// Every byte once. Those that free text, numbers and JSON are likeliest to allow come first: where there is a
// choice, two of them are found soon.
constexpr std::array<char, 256> kBytesByUse = [] {
  std::array<char, 256> order{};
  std::array<bool, 256> taken{};
  size_t n = 0;
  const auto add = [&](unsigned char c) {
    if (taken[c]) return;
    taken[c] = true;
    order[n++] = static_cast<char>(c);
  };
  for (const char c : std::string_view("ae01\"}],tfn{[-2 ")) add(static_cast<unsigned char>(c));
  for (int c = 32; c < 256; ++c) add(static_cast<unsigned char>(c));
  for (int c = 0; c < 32; ++c) add(static_cast<unsigned char>(c));
  return order;
}();
constexpr int64_t kCompilerBytes = 512 << 20;  // of the compiler's own cache at most

class XMatcher : public Matcher {
 public:
  explicit XMatcher(std::shared_ptr<const CompiledGrammar> grammar)
      : grammar_(std::move(grammar)), matcher_(grammar_->grammar) {}

  bool Mask(std::span<int32_t> mask) override {
    int64_t shape[1] = {static_cast<int64_t>(mask.size())};
    DLTensor tensor{};
    tensor.data = mask.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = xgrammar::GetBitmaskDLType();
    tensor.shape = shape;
    try {
      return matcher_.FillNextTokenBitmask(&tensor);
    } catch (const std::exception&) {
      std::fill(mask.begin(), mask.end(), 0);
      return true;
    }
  }
  bool Allows(Token token) override {
    if (!Take(token)) return false;
    matcher_.Rollback(1);
    return true;
  }
  bool Accept(Token token) override { return Take(token); }
  // XGrammar's FindJumpForwardString goes on as long as there is no choice: for ever where a grammar never
  // ends ({"a": {"a": …, seen: a server out of memory). So byte by byte, by what is refused, and no further
  // than a step takes.
  std::string Forced() override {
    std::string text;
    try {
      while (text.size() < kMostForced && !matcher_.IsTerminated() && !matcher_.IsCompleted()) {
        char only = 0;
        if (AcceptedBytes(2, &only) != 1 || !matcher_.AcceptString(std::string(1, only))) break;
        text += only;
      }
    } catch (const std::exception&) {  // what was accepted is taken back all the same
    }
    if (!text.empty()) matcher_.Rollback(static_cast<int>(text.size()));
    text.resize(CompleteUtf8(text));
    return text;
  }
  bool done() override {
    if (matcher_.IsTerminated()) return true;
    try {
      return matcher_.IsCompleted() && AcceptedBytes(1) == 0;
    } catch (const std::exception&) {
      return false;
    }
  }
  bool may_end() const override { return matcher_.IsCompleted(); }

 private:
  // How many bytes may come next, at most `most` of them looked for; the last one found.
  int AcceptedBytes(int most, char* last = nullptr) {
    int found = 0;
    for (const char c : kBytesByUse) {
      if (!matcher_.AcceptString(std::string(1, c))) continue;
      matcher_.Rollback(1);
      if (last != nullptr) *last = c;
      if (++found == most) break;
    }
    return found;
  }

  bool Take(Token token) {
    if (grammar_->pieces->silent[static_cast<size_t>(token)]) return false;
    try {
      return !matcher_.IsTerminated() && matcher_.AcceptToken(token);
    } catch (const std::exception&) {
      return false;
    }
  }

  std::shared_ptr<const CompiledGrammar> grammar_;
  xgrammar::GrammarMatcher matcher_;
};

// A structural tag whose schemas are grammars: XGrammar's own reading of a schema holds less.
Status CompileSchemas(nlohmann::ordered_json* tag) {
  if (!tag->is_structured()) return Status::Ok();
  if (tag->is_object() && tag->value("type", nlohmann::ordered_json()) == "json_schema" &&
      tag->contains("json_schema")) {
    HEADRACE_ASSIGN(std::string grammar, schema::SchemaGrammar((*tag)["json_schema"].dump()));
    *tag = {{"type", "grammar"}, {"grammar", std::move(grammar)}};
    return Status::Ok();
  }
  for (auto& part : *tag) HEADRACE_TRY(CompileSchemas(&part));
  return Status::Ok();
}

// The structure's text as XGrammar is told.
Result<std::string> Prepared(const Structure& structure) {
  using Kind = Structure::Kind;
  if (structure.kind == Kind::kJson) return schema::AnyObjectGrammar();
  if (structure.kind == Kind::kSchema) return schema::SchemaGrammar(structure.text);
  if (structure.kind != Kind::kTag) return structure.text;
  HEADRACE_TRY(schema::CheckJsonText(structure.text));
  nlohmann::ordered_json tag = ParseJsonInOrder(structure.text);
  HEADRACE_TRY(CompileSchemas(&tag));
  return tag.dump();
}

}  // namespace

Grammars::Grammars(std::vector<std::string> pieces, std::vector<Token> ends, std::shared_ptr<HostCache> host,
                   uint64_t vocabulary)
    : state_(std::make_unique<State>()) {
  state_->host = host ? std::move(host) : HostCache::Make({});
  state_->name = Hex64(vocabulary) + " ";
  state_->pieces = std::move(pieces);
  state_->ends = std::move(ends);
}

Grammars::~Grammars() = default;

std::shared_ptr<const CompiledGrammar> Grammars::Find(const Structure& structure) const {
  return state_->Find(structure);
}

Result<std::shared_ptr<const CompiledGrammar>> Grammars::Compile(const Structure& structure) {
  using Kind = Structure::Kind;
  if (structure.kind == Kind::kNone) return Status::Invalid("there is no structure to compile");
  if (static_cast<int64_t>(structure.text.size()) > limits::kMaxSchemaBytes)
    return Status::Limit("a schema or grammar of " + std::to_string(structure.text.size()) +
                         " bytes is larger than the limit of " + std::to_string(limits::kMaxSchemaBytes) +
                         " (kMaxSchemaBytes)");
  HEADRACE_ASSIGN(const std::string text, Prepared(structure));
  const std::lock_guard lock(state_->mutex);
  if (auto found = Find(structure)) return found;
  try {
    if (!state_->compiler) {
      state_->tokenizer.emplace(state_->pieces, xgrammar::VocabType::RAW,
                                static_cast<int>(state_->pieces.size()), state_->ends);
      // Its own cache keeps the token masks of rules that schemas have in common (strings above all): 20
      // schemas compile in 2.5 s instead of 15.
      state_->compiler.emplace(*state_->tokenizer, 1, true,
                               std::min(kCompilerBytes, state_->host->limits().cache / 2));
    }
    std::optional<xgrammar::CompiledGrammar> compiled;
    switch (structure.kind) {
      case Kind::kJson:
      case Kind::kSchema:
      case Kind::kGrammar:
        compiled = state_->compiler->CompileGrammar(text);
        break;
      case Kind::kRegex:
        compiled = state_->compiler->CompileRegex(text);
        break;
      case Kind::kTag:
        compiled = state_->compiler->CompileStructuralTag(text);
        break;
      case Kind::kNone:
        break;
    }
    if (!state_->bytes) state_->bytes = std::make_shared<const Pieces>(state_->pieces, state_->ends);
    auto result = std::make_shared<const CompiledGrammar>(*compiled, state_->bytes);
    std::vector<int32_t> first((state_->pieces.size() + 31) / 32, -1);
    if (XMatcher(result).Mask(first) &&
        std::all_of(first.begin(), first.end(), [](int32_t m) { return m == 0; }))
      return Status::Invalid("the schema or grammar allows no answer at all: nothing may come first");
    state_->CountParts();
    state_->host->PutGrammar(state_->KeyOf(structure), result,
                             static_cast<int64_t>(result->grammar.MemorySizeBytes() + structure.text.size()));
    return std::shared_ptr<const CompiledGrammar>(result);
  } catch (const std::exception& error) {
    std::string why = error.what();
    if (const size_t at = why.find(": "); why.rfind('[', 0) == 0 && at != std::string::npos)
      why = why.substr(at + 2);
    while (!why.empty() && (why.back() == '\n' || why.back() == ' ')) why.pop_back();
    return Status::Invalid("the schema or grammar cannot be used: " + why);
  }
}

std::unique_ptr<Matcher> Grammars::Match(std::shared_ptr<const CompiledGrammar> grammar) {
  return std::make_unique<XMatcher>(std::move(grammar));
}

}  // namespace headrace::engine
