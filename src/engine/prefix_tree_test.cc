// The tree of cached prefixes, against lists.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/prefix_tree.h"

namespace headrace::engine {
namespace {

// Against the plainest thing that could be right: every path its own list of (cell, token).
TEST(PrefixTree, AgreesWithListsOfCells) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(random);
    };
    constexpr int kPaths = 8;
    PrefixTree tree(kPaths);
    std::vector<std::vector<std::pair<int, Token>>> lists(kPaths);
    std::vector<uint64_t> roots(kPaths);
    std::vector<bool> open(kPaths, false);
    int next_cell = 0;
    for (int step = 0; step < 200; ++step) {
      const int path = static_cast<int>(pick(0, kPaths - 1));
      const auto p = static_cast<size_t>(path);
      if (!open[p]) {
        const uint64_t root = static_cast<uint64_t>(pick(0, 1));
        std::vector<Token> wanted;
        for (int64_t i = pick(0, 12); i > 0; --i) wanted.push_back(static_cast<Token>(pick(0, 2)));
        const PrefixTree::Match match = tree.Find(root, wanted);
        int32_t best = 0;
        for (size_t other = 0; other < kPaths; ++other) {
          if (!open[other] || roots[other] != root) continue;
          int32_t common = 0;
          while (common < static_cast<int32_t>(std::min(lists[other].size(), wanted.size())) &&
                 lists[other][static_cast<size_t>(common)].second == wanted[static_cast<size_t>(common)])
            ++common;
          best = std::max(best, common);
        }
        ASSERT_EQ(match.length, best) << seed;
        if (match.length > 0) {
          const auto covering = tree.Covering(match.path, match.length);
          ASSERT_EQ(covering.front(), match.path);
          for (const int c : covering)
            for (int32_t i = 0; i < match.length; ++i)
              ASSERT_EQ(lists[static_cast<size_t>(c)][static_cast<size_t>(i)].first,
                        lists[static_cast<size_t>(match.path)][static_cast<size_t>(i)].first);
        }
        tree.Open(path, root, match.path, match.length);
        if (match.length > 0)
          lists[p].assign(lists[static_cast<size_t>(match.path)].begin(),
                          lists[static_cast<size_t>(match.path)].begin() + match.length);
        open[p] = true;
        roots[p] = root;
      } else if (pick(0, 9) < 6) {
        std::vector<Token> more;
        for (int64_t i = pick(1, 5); i > 0; --i) {
          more.push_back(static_cast<Token>(pick(0, 2)));
          lists[p].emplace_back(next_cell++, more.back());
        }
        tree.Append(path, more);
      } else if (pick(0, 1) == 0) {
        const auto length = static_cast<int32_t>(pick(0, static_cast<int64_t>(lists[p].size())));
        tree.Truncate(path, length);
        lists[p].resize(static_cast<size_t>(length));
      } else {
        tree.Close(path);
        lists[p].clear();
        open[p] = false;
      }
      std::map<int, int> holders;
      for (size_t other = 0; other < kPaths; ++other)
        for (const auto& [cell, token] : lists[other]) ++holders[cell];
      ASSERT_EQ(tree.cells(), static_cast<int64_t>(holders.size())) << "seed " << seed << ", step " << step;
      for (size_t other = 0; other < kPaths; ++other) {
        if (!open[other]) continue;
        std::vector<Token> tokens;
        int32_t alone = 0;
        for (const auto& [cell, token] : lists[other]) {
          tokens.push_back(token);
          alone += holders[cell] == 1 ? 1 : 0;
        }
        ASSERT_EQ(tree.tokens(static_cast<int>(other)), tokens);
        ASSERT_EQ(tree.Exclusive(static_cast<int>(other)), alone) << "seed " << seed << ", step " << step;
      }
    }
  }
}

}  // namespace
}  // namespace headrace::engine
