// PrefixTree: which tokens are in the cache, and who holds them. A radix tree whose nodes are runs of cells
// and whose paths end at nodes: the ledger of unique cells is the sum of the nodes' lengths, since llama.cpp
// counts for nobody. A path covers everything from its root to its end, so inner nodes need no ids. Two
// requests that computed the same tokens apart have cells of their own, so siblings may begin alike.
// (The radix tree over cached prefixes is SGLang's: Zheng et al. 2024, arXiv:2312.07104.)
//
// Pure: it never touches a decoder. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace headrace::engine {

using model::Token;

// How many tokens two texts begin with in common.
int32_t CommonLength(std::span<const Token> a, std::span<const Token> b);

class PrefixTree {
 public:
  explicit PrefixTree(int32_t paths);
  ~PrefixTree();

  struct Match {
    int path = -1;       // a path that covers the match, -1 where nothing matches
    int32_t length = 0;  // tokens in common
  };
  // The longest cached beginning of `tokens` under `root` (a hash of model, adapter and scope: trees of
  // different roots never meet). Where several paths cover it, the one that is longest in common and then the
  // lowest is given.
  Match Find(uint64_t root, std::span<const Token> tokens) const;

  // Every path that covers the first `length` tokens of a match, the matched one first.
  std::vector<int> Covering(int path, int32_t length) const;

  // Opens an unused path under `root`; it begins with the first `length` cells of `from` (−1: with none).
  void Open(int path, uint64_t root, int from, int32_t length);
  void Append(int path, std::span<const Token> tokens);
  void Truncate(int path, int32_t length);
  void Close(int path);

  bool open(int path) const { return ends_[static_cast<size_t>(path)] != nullptr; }
  int32_t length(int path) const;
  uint64_t root(int path) const;
  std::vector<Token> tokens(int path) const;
  int64_t cells() const { return cells_; }  // unique cells of all paths
  // Cells that closing this path would free.
  int32_t Exclusive(int path) const;

 private:
  struct Node;
  void Split(Node* node, int32_t length);
  void Release(Node* node);

  std::map<uint64_t, std::unique_ptr<Node>> roots_;
  std::vector<Node*> ends_;
  int64_t cells_ = 0;
};

}  // namespace headrace::engine
