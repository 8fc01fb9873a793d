#include "engine/grammar.h"

#include <xgrammar/xgrammar.h>

#include <list>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/limits.h"

namespace headrace::engine {

class CompiledGrammar {
 public:
  explicit CompiledGrammar(xgrammar::CompiledGrammar grammar) : grammar(std::move(grammar)) {}
  xgrammar::CompiledGrammar grammar;
};

struct Grammars::State {
  std::vector<std::string> pieces;
  std::vector<Token> ends;
  std::mutex mutex;  // one compilation at a time; XGrammar's set-up of the vocabulary is done by the first
  std::optional<xgrammar::TokenizerInfo> tokenizer;
  std::optional<xgrammar::GrammarCompiler> compiler;
  std::map<Structure, std::shared_ptr<const CompiledGrammar>> kept;
  std::list<Structure> order;  // oldest first
};

namespace {

constexpr size_t kKept = 256;  // compiled grammars
constexpr int64_t kCacheBytes = 512 << 20;
constexpr int kWhitespace = 2;     // blanks in a row: a model could otherwise write them for ever
constexpr int kSchemaDepth = 256;  // nesting of a schema's text

// Keywords of JSON Schema that XGrammar reads past: enforcing nothing would be a broken promise.
constexpr const char* kNotEnforced[] = {"not",
                                        "if",
                                        "then",
                                        "else",
                                        "uniqueItems",
                                        "multipleOf",
                                        "contains",
                                        "minContains",
                                        "maxContains",
                                        "dependentRequired",
                                        "dependentSchemas",
                                        "dependencies",
                                        "propertyNames",
                                        "$dynamicRef",
                                        "$recursiveRef"};

int Depth(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        quoted = false;
    } else if (text[i] == '"') {
      quoted = true;
    } else if (text[i] == '{' || text[i] == '[') {
      most = std::max(most, ++depth);
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return most;
}

// The path of the first keyword that would not be enforced, "" if there is none. `where` is a schema.
std::string Unenforced(const nlohmann::json& schema, const std::string& where) {
  if (!schema.is_object()) return "";
  for (const char* word : kNotEnforced)
    if (schema.contains(word) && !(std::string_view(word) == "uniqueItems" && schema[word] == false))
      return where + "/" + word;
  for (const char* map : {"properties", "$defs", "definitions", "patternProperties"})
    if (schema.contains(map) && schema[map].is_object())
      for (const auto& [name, value] : schema[map].items())
        if (std::string found = Unenforced(value, where + "/" + map + "/" + name); !found.empty())
          return found;
  for (const char* one :
       {"items", "additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems"})
    if (schema.contains(one))
      if (std::string found = Unenforced(schema[one], where + "/" + one); !found.empty()) return found;
  for (const char* list : {"anyOf", "oneOf", "allOf", "prefixItems"})
    if (schema.contains(list) && schema[list].is_array())
      for (size_t i = 0; i < schema[list].size(); ++i)
        if (std::string found = Unenforced(schema[list][i], where + "/" + list + "/" + std::to_string(i));
            !found.empty())
          return found;
  return "";
}

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
  bool Accept(Token token) override {
    try {
      return !matcher_.IsTerminated() && matcher_.AcceptToken(token);
    } catch (const std::exception&) {
      return false;
    }
  }
  std::string Forced() override {
    try {
      return matcher_.IsTerminated() ? "" : matcher_.FindJumpForwardString();
    } catch (const std::exception&) {
      return "";
    }
  }
  bool done() const override { return matcher_.IsTerminated(); }

 private:
  std::shared_ptr<const CompiledGrammar> grammar_;
  xgrammar::GrammarMatcher matcher_;
};

}  // namespace

Grammars::Grammars(std::vector<std::string> pieces, std::vector<Token> ends)
    : state_(std::make_unique<State>()) {
  state_->pieces = std::move(pieces);
  state_->ends = std::move(ends);
}

Grammars::~Grammars() = default;

Result<std::shared_ptr<const CompiledGrammar>> Grammars::Compile(const Structure& structure) {
  using Kind = Structure::Kind;
  if (structure.kind == Kind::kNone) return Status::Invalid("there is no structure to compile");
  if (static_cast<int64_t>(structure.text.size()) > limits::kMaxSchemaBytes)
    return Status::Limit("a schema or grammar of " + std::to_string(structure.text.size()) +
                         " bytes is larger than the limit of " + std::to_string(limits::kMaxSchemaBytes) +
                         " (kMaxSchemaBytes)");
  if (structure.kind == Kind::kSchema || structure.kind == Kind::kTag) {
    if (Depth(structure.text) > kSchemaDepth)
      return Status::Limit("the schema is nested more than " + std::to_string(kSchemaDepth) + " deep");
    const nlohmann::json json = nlohmann::json::parse(structure.text, nullptr, false);
    if (json.is_discarded()) return Status::Invalid("the schema is not JSON");
    if (structure.kind == Kind::kSchema) {
      if (!json.is_object() && !json.is_boolean())
        return Status::Invalid("a JSON schema is an object, true or false");
      if (const std::string found = Unenforced(json, "#"); !found.empty())
        return Status::Unsupported("the schema's " + found +
                                   " cannot be enforced; leave it out, or check the answer yourself");
    }
  }
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->kept.find(structure); found != state_->kept.end()) return found->second;
  try {
    if (!state_->compiler) {
      state_->tokenizer.emplace(state_->pieces, xgrammar::VocabType::RAW,
                                static_cast<int>(state_->pieces.size()), state_->ends);
      // Its own cache keeps the token masks of rules that schemas have in common (strings above all): 20
      // schemas compile in 2.5 s instead of 15.
      state_->compiler.emplace(*state_->tokenizer, 1, true, kCacheBytes);
    }
    std::optional<xgrammar::CompiledGrammar> compiled;
    switch (structure.kind) {
      case Kind::kJson:
        compiled = state_->compiler->CompileBuiltinJSONGrammar();
        break;
      case Kind::kSchema:
        compiled = state_->compiler->CompileJSONSchema(structure.text, true, std::nullopt, std::nullopt, true,
                                                       kWhitespace);
        break;
      case Kind::kRegex:
        compiled = state_->compiler->CompileRegex(structure.text);
        break;
      case Kind::kGrammar:
        compiled = state_->compiler->CompileGrammar(structure.text);
        break;
      case Kind::kTag:
        compiled = state_->compiler->CompileStructuralTag(structure.text);
        break;
      case Kind::kNone:
        break;
    }
    auto result = std::make_shared<const CompiledGrammar>(*compiled);
    state_->kept.emplace(structure, result);
    state_->order.push_back(structure);
    if (state_->order.size() > kKept) {
      state_->kept.erase(state_->order.front());
      state_->order.pop_front();
    }
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
