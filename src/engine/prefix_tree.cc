#include "engine/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace headrace::engine {

struct PrefixTree::Node {
  Node* parent = nullptr;
  int32_t depth = 0;  // tokens before this node
  std::vector<Token> tokens;
  std::vector<std::unique_ptr<Node>> children;
  std::vector<int> ends;  // paths that end at this node's end
  uint64_t root = 0;

  int32_t end() const { return depth + static_cast<int32_t>(tokens.size()); }
  bool idle() const { return children.empty() && ends.empty(); }
};

int32_t CommonLength(std::span<const Token> a, std::span<const Token> b) {
  const size_t most = std::min(a.size(), b.size());
  return static_cast<int32_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first - a.begin());
}

PrefixTree::PrefixTree(int32_t paths) : ends_(static_cast<size_t>(paths), nullptr) {}
PrefixTree::~PrefixTree() = default;

PrefixTree::Match PrefixTree::Find(uint64_t root, std::span<const Token> tokens) const {
  const auto found = roots_.find(root);
  if (found == roots_.end()) return {};
  // Siblings may begin alike, so every branch that matches is followed; the deepest wins.
  const Node* best = found->second.get();
  int32_t best_length = 0;
  std::vector<const Node*> open{best};
  while (!open.empty()) {
    const Node* node = open.back();
    open.pop_back();
    for (const auto& child : node->children) {
      const int32_t common = CommonLength(tokens.subspan(static_cast<size_t>(child->depth)), child->tokens);
      if (common == 0) continue;
      if (child->depth + common > best_length) {
        best_length = child->depth + common;
        best = child.get();
      }
      if (common == static_cast<int32_t>(child->tokens.size())) open.push_back(child.get());
    }
  }
  if (best_length == 0) return {};
  int path = -1;
  std::vector<const Node*> below{best};
  while (!below.empty()) {
    const Node* node = below.back();
    below.pop_back();
    for (const int end : node->ends) path = path < 0 ? end : std::min(path, end);
    for (const auto& child : node->children) below.push_back(child.get());
  }
  HEADRACE_CHECK(path >= 0);
  return {path, best_length};
}

std::vector<int> PrefixTree::Covering(int path, int32_t length) const {
  std::vector<int> result{path};
  const Node* node = ends_[static_cast<size_t>(path)];
  while (node->depth >= length && node->parent != nullptr) node = node->parent;
  std::vector<const Node*> below{node};
  while (!below.empty()) {
    const Node* at = below.back();
    below.pop_back();
    for (const int end : at->ends)
      if (end != path) result.push_back(end);
    for (const auto& child : at->children) below.push_back(child.get());
  }
  return result;
}

void PrefixTree::Split(Node* node, int32_t length) {
  HEADRACE_CHECK(length > 0 && length < static_cast<int32_t>(node->tokens.size()));
  auto tail = std::make_unique<Node>();
  tail->parent = node;
  tail->root = node->root;
  tail->depth = node->depth + length;
  tail->tokens.assign(node->tokens.begin() + length, node->tokens.end());
  tail->children = std::move(node->children);
  tail->ends = std::move(node->ends);
  for (const auto& child : tail->children) child->parent = tail.get();
  for (const int path : tail->ends) ends_[static_cast<size_t>(path)] = tail.get();
  node->tokens.resize(static_cast<size_t>(length));
  node->children.clear();
  node->ends.clear();
  node->children.push_back(std::move(tail));
}

void PrefixTree::Open(int path, uint64_t root, int from, int32_t length) {
  Node*& end = ends_[static_cast<size_t>(path)];
  HEADRACE_CHECK(end == nullptr);
  Node* node = nullptr;
  if (from >= 0 && length > 0) {
    node = ends_[static_cast<size_t>(from)];
    HEADRACE_CHECK(node != nullptr && node->root == root && node->end() >= length);
    while (node->depth >= length) node = node->parent;
    if (length < node->end()) Split(node, length - node->depth);
  } else {
    auto& top = roots_[root];
    if (!top) {
      top = std::make_unique<Node>();
      top->root = root;
    }
    node = top.get();
  }
  node->ends.push_back(path);
  end = node;
}

void PrefixTree::Append(int path, std::span<const Token> tokens) {
  if (tokens.empty()) return;
  Node* node = ends_[static_cast<size_t>(path)];
  HEADRACE_CHECK(node != nullptr);
  cells_ += static_cast<int64_t>(tokens.size());
  if (node->parent != nullptr && node->children.empty() &&
      node->ends.size() == 1) {  // alone: it grows in place
    node->tokens.insert(node->tokens.end(), tokens.begin(), tokens.end());
    return;
  }
  auto child = std::make_unique<Node>();
  child->parent = node;
  child->root = node->root;
  child->depth = node->end();
  child->tokens.assign(tokens.begin(), tokens.end());
  child->ends.push_back(path);
  std::erase(node->ends, path);
  ends_[static_cast<size_t>(path)] = child.get();
  node->children.push_back(std::move(child));
}

// Frees what no path covers any more, from `node` upwards.
void PrefixTree::Release(Node* node) {
  while (node->idle()) {
    Node* parent = node->parent;
    cells_ -= static_cast<int64_t>(node->tokens.size());
    if (parent == nullptr) {
      roots_.erase(node->root);
      return;
    }
    std::erase_if(parent->children, [node](const auto& child) { return child.get() == node; });
    node = parent;
  }
  // A node with one child and no path of its own is one run of cells with it.
  if (node->parent != nullptr && node->ends.empty() && node->children.size() == 1) {
    std::unique_ptr<Node> child = std::move(node->children.front());
    node->tokens.insert(node->tokens.end(), child->tokens.begin(), child->tokens.end());
    node->ends = std::move(child->ends);
    node->children = std::move(child->children);
    for (const auto& grandchild : node->children) grandchild->parent = node;
    for (const int path : node->ends) ends_[static_cast<size_t>(path)] = node;
  }
}

void PrefixTree::Truncate(int path, int32_t length) {
  Node* old = ends_[static_cast<size_t>(path)];
  HEADRACE_CHECK(old != nullptr && length <= old->end());
  if (length == old->end()) return;
  if (old->children.empty() && old->ends.size() == 1 && length > old->depth) {  // alone: it shrinks in place
    cells_ -= old->end() - length;
    old->tokens.resize(static_cast<size_t>(length - old->depth));
    return;
  }
  Node* node = old;
  while (node->parent != nullptr && node->depth >= length) node = node->parent;
  if (length > node->depth && length < node->end()) {
    Split(node, length - node->depth);
    old = ends_[static_cast<size_t>(path)];
  }
  std::erase(old->ends, path);
  node->ends.push_back(path);
  ends_[static_cast<size_t>(path)] = node;
  if (old != node) Release(old);
}

void PrefixTree::Close(int path) {
  Node*& end = ends_[static_cast<size_t>(path)];
  HEADRACE_CHECK(end != nullptr);
  Node* node = end;
  end = nullptr;
  std::erase(node->ends, path);
  Release(node);
}

int32_t PrefixTree::length(int path) const {
  const Node* node = ends_[static_cast<size_t>(path)];
  return node == nullptr ? 0 : node->end();
}

uint64_t PrefixTree::root(int path) const { return ends_[static_cast<size_t>(path)]->root; }

std::vector<Token> PrefixTree::tokens(int path) const {
  const Node* node = ends_[static_cast<size_t>(path)];
  std::vector<Token> result(static_cast<size_t>(length(path)));
  for (; node != nullptr; node = node->parent)
    std::copy(node->tokens.begin(), node->tokens.end(), result.begin() + node->depth);
  return result;
}

int32_t PrefixTree::Exclusive(int path) const {
  const Node* node = ends_[static_cast<size_t>(path)];
  if (node == nullptr || !node->children.empty() || node->ends.size() > 1) return 0;
  int32_t cells = static_cast<int32_t>(node->tokens.size());
  for (const Node* at = node->parent; at != nullptr && at->ends.empty() && at->children.size() == 1;
       at = at->parent)
    cells += static_cast<int32_t>(at->tokens.size());
  return cells;
}

}  // namespace headrace::engine
