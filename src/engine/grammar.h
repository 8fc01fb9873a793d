// Grammar: answers of a given structure, by XGrammar (Dong et al. 2024, arXiv:2411.15100). Compiling takes 25
// to 1,030 ms for a large vocabulary: it is done off the compute thread and kept.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/request.h"

namespace headrace::engine {

class CompiledGrammar;  // immutable, shared
class HostCache;

// Where a request's answer stands in its grammar.
class Matcher {
 public:
  virtual ~Matcher() = default;
  // Bits of the tokens that may come next, 32 a word. False: every token may.
  virtual bool Mask(std::span<int32_t> mask) = 0;
  // False where the token does not fit; the state is then unchanged.
  virtual bool Accept(Token token) = 0;
  // Whether this token may come next: a few of these cost less than a mask where masks are dear.
  virtual bool Allows(Token token) = 0;
  double mask_seconds = 0;  // what the last mask took; Drawer's note
  // Text that must come next whatever the model says, "" where it has a choice; a long one in parts.
  virtual std::string Forced() = 0;
  // Nothing but the end may come: the model need not be asked for it, which would take a step.
  virtual bool done() = 0;
  virtual bool may_end() const = 0;  // an end token may come
};

class Grammars {
 public:
  // `pieces`: the bytes of every token; `ends`: the tokens that end an answer. What was compiled is kept in
  // `host` (null: one of its own), under a number of the vocabulary: engines of one vocabulary share it.
  Grammars(std::vector<std::string> pieces, std::vector<Token> ends,
           std::shared_ptr<HostCache> host = nullptr, uint64_t vocabulary = 0);
  ~Grammars();

  // Compiles, or gives what was compiled before. Thread-safe; blocks. kInvalid names what is wrong with the
  // schema; what a schema asks for that cannot be enforced is an error too, not ignored.
  Result<std::shared_ptr<const CompiledGrammar>> Compile(const Structure& structure);
  // What was compiled before, null if it was not. Thread-safe; does not wait for what is being compiled.
  std::shared_ptr<const CompiledGrammar> Find(const Structure& structure) const;
  static std::unique_ptr<Matcher> Match(std::shared_ptr<const CompiledGrammar> grammar);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::engine
