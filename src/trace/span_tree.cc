#include "trace/span_tree.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace headrace::trace {
namespace {

constexpr double kMicros = 1e6;

using Children = std::vector<std::vector<size_t>>;

// The children of each span; of the last entry, the roots.
Children FindChildren(const std::vector<SpanFacts>& spans) {
  std::unordered_map<std::string_view, size_t> places;
  for (size_t i = 0; i < spans.size(); ++i)
    if (!spans[i].span_id.empty()) places.emplace(spans[i].span_id, i);
  Children children(spans.size() + 1);
  std::vector<size_t> parents(spans.size(), spans.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto found = places.find(spans[i].parent);
    if (found != places.end() && found->second != i) parents[i] = found->second;
  }
  // Each walk upwards ends at a root, at a span that another walk saw, or in its own track: there is a loop.
  std::vector<size_t> walk(spans.size(), 0);
  for (size_t i = 0; i < spans.size(); ++i) {
    size_t at = i;
    while (at != spans.size() && walk[at] == 0) {
      walk[at] = i + 1;
      at = parents[at];
    }
    if (at != spans.size() && walk[at] == i + 1) parents[at] = spans.size();
  }
  for (size_t i = 0; i < spans.size(); ++i) children[parents[i]].push_back(i);
  for (auto& list : children)
    std::stable_sort(list.begin(), list.end(),
                     [&](size_t a, size_t b) { return spans[a].started < spans[b].started; });
  return children;
}

template <typename Figure>
void Add(Figure more, Figure* sum) {
  if (more >= 0) *sum = std::max<Figure>(*sum, 0) + more;
}

// From the last to the first, so that a span's children are whole when it is reached.
void SumUp(std::vector<TreeSpan>* tree) {
  struct Sums {
    int64_t prompt = -1, answer = -1;
    double cost = -1;
  };
  std::vector<Sums> below;  // of the spans at each depth, whose parent is still to come
  for (auto span = tree->rbegin(); span != tree->rend(); ++span) {
    const auto depth = static_cast<size_t>(span->depth);
    if (below.size() < depth + 2) below.resize(depth + 2);
    const Sums children = std::exchange(below[depth + 1], {});
    span->prompt_tokens = std::max(span->prompt_tokens, children.prompt);
    span->answer_tokens = std::max(span->answer_tokens, children.answer);
    span->cost = std::max(span->cost, children.cost);
    Add(span->prompt_tokens, &below[depth].prompt);
    Add(span->answer_tokens, &below[depth].answer);
    Add(span->cost, &below[depth].cost);
  }
}

// Queue, prefill and decode end to end, such that the first token came when it did.
void AddPhases(const SpanFacts& facts, const TreeSpan& request, std::vector<TreeSpan>* tree) {
  if (facts.started < 0) return;
  const double decode = std::max(facts.decode, 0.0), prefill = std::max(facts.prefill, 0.0);
  const double first = facts.first_token >= 0 ? facts.first_token : request.seconds - decode;
  const double begin = std::max(0.0, first - prefill);
  const std::pair<Phase, std::pair<double, double>> phases[] = {
      {Phase::kQueue, {std::max(0.0, begin - facts.queue), facts.queue}},
      {Phase::kPrefill, {begin, facts.prefill}},
      {Phase::kDecode, {begin + prefill, facts.decode}}};
  for (const auto& [phase, time] : phases) {
    if (time.second <= 0) continue;
    TreeSpan part;
    part.span = request.span;
    part.phase = phase;
    part.depth = request.depth + 1;
    part.started = facts.started + static_cast<int64_t>(time.first * kMicros);
    part.seconds = time.second;
    tree->push_back(part);
  }
}

}  // namespace

std::vector<TreeSpan> LayOut(const std::vector<SpanFacts>& spans) {
  const Children children = FindChildren(spans);
  std::vector<TreeSpan> tree;
  struct Next {
    size_t span;
    int depth;
    int64_t started;  // of its parent
  };
  std::vector<Next> stack;
  const auto push = [&](const std::vector<size_t>& list, int depth, int64_t started) {
    for (auto child = list.rbegin(); child != list.rend(); ++child) stack.push_back({*child, depth, started});
  };
  push(children.back(), 0, -1);
  while (!stack.empty()) {
    const Next next = stack.back();
    stack.pop_back();
    const SpanFacts& facts = spans[next.span];
    TreeSpan span{next.span, Phase::kNone, next.depth, facts.started >= 0 ? facts.started : next.started};
    if (facts.started >= 0 && facts.ended > facts.started)
      span.seconds = static_cast<double>(facts.ended - facts.started) / kMicros;
    span.prompt_tokens = facts.prompt_tokens;
    span.answer_tokens = facts.answer_tokens;
    span.cost = facts.cost;
    tree.push_back(span);
    AddPhases(facts, span, &tree);
    push(children[next.span], next.depth + 1, span.started);
  }
  SumUp(&tree);
  return tree;
}

}  // namespace headrace::trace
