#include "schema/automaton.h"

#include <algorithm>
#include <map>

#include "base/utf8.h"

namespace headrace::schema {
namespace {

constexpr size_t kMostNodes = 20000;  // of the nondeterministic automaton

// Thompson's construction, anchors as edges that may be taken at the text's ends only.
class Nondeterministic {
 public:
  enum class On { kNothing, kBegin, kEnd, kSet };
  struct Edge {
    On on = On::kNothing;
    int32_t set = 0;  // of sets_
    int32_t to = 0;
  };

  Status Add(const Regex& regex, int32_t* from) {
    using Kind = Regex::Kind;
    if (nodes_.size() > kMostNodes)
      return Status::Limit("the pattern needs an automaton larger than the limit");
    switch (regex.kind) {
      case Kind::kSet:
        sets_.push_back(regex.set);
        *from = Step(*from, {On::kSet, static_cast<int32_t>(sets_.size()) - 1});
        return Status::Ok();
      case Kind::kBegin:
        *from = Step(*from, {On::kBegin});
        return Status::Ok();
      case Kind::kEnd:
        *from = Step(*from, {On::kEnd});
        return Status::Ok();
      case Kind::kSequence:
        for (const Regex& part : regex.parts) HEADRACE_TRY(Add(part, from));
        return Status::Ok();
      case Kind::kChoice: {
        const int32_t end = NewNode();
        for (const Regex& part : regex.parts) {
          int32_t branch = Step(*from, {});
          HEADRACE_TRY(Add(part, &branch));
          nodes_[static_cast<size_t>(branch)].push_back({On::kNothing, 0, end});
        }
        *from = end;
        return Status::Ok();
      }
      case Kind::kRepeat:
        return AddRepeat(regex, from);
    }
    return Status::Ok();
  }

  int32_t NewNode() {
    nodes_.emplace_back();
    return static_cast<int32_t>(nodes_.size()) - 1;
  }
  int32_t Step(int32_t from, Edge edge) {
    edge.to = NewNode();
    nodes_[static_cast<size_t>(from)].push_back(edge);
    return edge.to;
  }
  // Any text, again and again.
  void AddLoop(int32_t node) {
    sets_.push_back(CharSet::AllText());
    nodes_[static_cast<size_t>(node)].push_back({On::kSet, static_cast<int32_t>(sets_.size()) - 1, node});
  }

  // What is in reach without a character, ascending.
  void Close(std::vector<int32_t>* set, bool at_begin, bool at_end) {
    seen_.resize(nodes_.size());
    ++round_;
    std::vector<int32_t> open = *set;
    for (const int32_t node : open) seen_[static_cast<size_t>(node)] = round_;
    while (!open.empty()) {
      const int32_t node = open.back();
      open.pop_back();
      for (const Edge& edge : nodes_[static_cast<size_t>(node)]) {
        const bool free =
            edge.on == On::kNothing || (edge.on == On::kBegin && at_begin) || (edge.on == On::kEnd && at_end);
        if (!free || seen_[static_cast<size_t>(edge.to)] == round_) continue;
        seen_[static_cast<size_t>(edge.to)] = round_;
        open.push_back(edge.to);
        set->push_back(edge.to);
      }
    }
    std::sort(set->begin(), set->end());
  }

  const std::vector<Edge>& edges(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  const CharSet& set(int32_t index) const { return sets_[static_cast<size_t>(index)]; }

 private:
  Status AddRepeat(const Regex& regex, int32_t* from) {
    for (int i = 0; i < regex.least; ++i) HEADRACE_TRY(Add(regex.parts[0], from));
    if (regex.most < 0) {
      const int32_t loop = Step(*from, {});
      int32_t end = loop;
      HEADRACE_TRY(Add(regex.parts[0], &end));
      nodes_[static_cast<size_t>(end)].push_back({On::kNothing, 0, loop});
      *from = Step(loop, {});
      return Status::Ok();
    }
    const int32_t end = NewNode();
    for (int i = regex.least; i < regex.most; ++i) {
      nodes_[static_cast<size_t>(*from)].push_back({On::kNothing, 0, end});
      HEADRACE_TRY(Add(regex.parts[0], from));
    }
    nodes_[static_cast<size_t>(*from)].push_back({On::kNothing, 0, end});
    *from = end;
    return Status::Ok();
  }

  std::vector<std::vector<Edge>> nodes_;
  std::vector<CharSet> sets_;
  std::vector<uint32_t> seen_;  // the round in which Close last met a node
  uint32_t round_ = 0;
};

// Overlapping labelled ranges as disjoint ones: for each stretch, the sorted targets.
struct Labelled {
  CharRange range;
  int32_t to;
};
std::vector<std::pair<CharRange, std::vector<int32_t>>> Disjoint(const std::vector<Labelled>& labelled) {
  std::map<uint32_t, std::pair<std::vector<int32_t>, std::vector<int32_t>>> changes;  // begin, end
  for (const Labelled& one : labelled) {
    changes[one.range.first].first.push_back(one.to);
    changes[one.range.last + 1].second.push_back(one.to);
  }
  std::vector<std::pair<CharRange, std::vector<int32_t>>> out;
  std::map<int32_t, int> live;
  uint32_t since = 0;
  for (const auto& [at, change] : changes) {
    if (!live.empty()) {
      std::vector<int32_t> targets;
      for (const auto& [to, count] : live) targets.push_back(to);
      out.emplace_back(CharRange{since, at - 1}, std::move(targets));
    }
    for (const int32_t to : change.first) ++live[to];
    for (const int32_t to : change.second)
      if (--live[to] == 0) live.erase(to);
    since = at;
  }
  return out;
}

void AppendEdge(std::vector<Automaton::Edge>* edges, Automaton::Edge edge) {
  if (!edges->empty() && edges->back().to == edge.to && edges->back().last + 1 == edge.first) {
    edges->back().last = edge.last;
  } else {
    edges->push_back(edge);
  }
}

Status TooLarge() {
  return Status::Limit("the patterns and lengths together need an automaton of more than " +
                       std::to_string(Automaton::kMostStates) + " states");
}

}  // namespace

Automaton::Automaton(std::vector<State> states) : states_(std::move(states)) {
  DropDeadEnds();
  MergeEqualStates();
}

Result<Automaton> Automaton::OfPattern(const Regex& pattern) {
  Nondeterministic machine;
  const int32_t begin = machine.NewNode();
  int32_t at = machine.Step(begin, {});
  machine.AddLoop(begin);
  HEADRACE_TRY(machine.Add(pattern, &at));
  const int32_t final_node = machine.Step(at, {});
  machine.AddLoop(final_node);

  std::vector<State> states;
  std::map<std::vector<int32_t>, int32_t> known;  // the first state is its own: only there ^ may hold
  std::vector<std::vector<int32_t>> sets;
  const auto add = [&](std::vector<int32_t> set, bool first) {
    machine.Close(&set, first, false);
    if (!first)
      if (const auto found = known.find(set); found != known.end()) return found->second;
    std::vector<int32_t> ended = set;
    machine.Close(&ended, first, true);
    const auto index = static_cast<int32_t>(states.size());
    states.push_back({{}, std::binary_search(ended.begin(), ended.end(), final_node)});
    if (!first) known[set] = index;
    sets.push_back(std::move(set));
    return index;
  };
  add({begin}, true);
  for (size_t i = 0; i < states.size(); ++i) {
    if (states.size() > kMostStates) return TooLarge();
    std::vector<Labelled> labelled;
    for (const int32_t node : sets[i])
      for (const auto& edge : machine.edges(node))
        if (edge.on == Nondeterministic::On::kSet)
          for (const CharRange range : machine.set(edge.set).ranges()) labelled.push_back({range, edge.to});
    std::vector<Edge> edges;
    for (auto& [range, targets] : Disjoint(labelled))
      AppendEdge(&edges, {range.first, range.last, add(targets, false)});
    states[i].edges = std::move(edges);
  }
  return Automaton(std::move(states));
}

Result<Automaton> Automaton::OfLength(int64_t least, int64_t most) {
  const int64_t last = most < 0 ? least : most;
  if (last >= static_cast<int64_t>(kMostStates)) return TooLarge();
  std::vector<State> states(static_cast<size_t>(last) + 1);
  for (int64_t i = 0; i <= last; ++i) {
    State& state = states[static_cast<size_t>(i)];
    state.accepts = i >= least;
    const int64_t next = i < last ? i + 1 : most < 0 ? i : -1;
    if (next >= 0)
      for (const CharRange range : CharSet::AllText().ranges())
        state.edges.push_back({range.first, range.last, static_cast<int32_t>(next)});
  }
  return Automaton(std::move(states));
}

Automaton Automaton::OfTexts(const std::vector<std::string>& texts) {
  std::vector<std::map<uint32_t, int32_t>> tree(1);
  std::vector<bool> ends(1);
  for (const std::string& text : texts) {
    size_t node = 0;
    for (size_t at = 0; at < text.size();) {
      const uint32_t code = NextCodePoint(text, &at);
      const auto [place, fresh] = tree[node].try_emplace(code, static_cast<int32_t>(tree.size()));
      const auto next = static_cast<size_t>(place->second);
      if (fresh) {
        tree.emplace_back();
        ends.push_back(false);
      }
      node = next;
    }
    ends[node] = true;
  }
  std::vector<State> states(tree.size());
  for (size_t i = 0; i < tree.size(); ++i) {
    states[i].accepts = ends[i];
    for (const auto& [code, to] : tree[i]) AppendEdge(&states[i].edges, {code, code, to});
  }
  return Automaton(std::move(states));
}

Automaton Automaton::All() { return OfTexts({}).Complement(); }

Result<Automaton> Automaton::Intersect(const Automaton& other) const {
  std::vector<State> states;
  std::map<std::pair<int32_t, int32_t>, int32_t> known;
  std::vector<std::pair<int32_t, int32_t>> pairs;
  const auto add = [&](int32_t a, int32_t b) {
    const auto [place, fresh] = known.try_emplace({a, b}, static_cast<int32_t>(states.size()));
    if (fresh) {
      states.push_back(
          {{}, states_[static_cast<size_t>(a)].accepts && other.states_[static_cast<size_t>(b)].accepts});
      pairs.emplace_back(a, b);
    }
    return place->second;
  };
  if (empty() || other.empty()) return Automaton(std::vector<State>());
  add(0, 0);
  for (size_t i = 0; i < states.size(); ++i) {
    if (states.size() > kMostStates) return TooLarge();
    const auto& mine = states_[static_cast<size_t>(pairs[i].first)].edges;
    const auto& theirs = other.states_[static_cast<size_t>(pairs[i].second)].edges;
    std::vector<Edge> edges;
    for (size_t x = 0, y = 0; x < mine.size() && y < theirs.size();) {
      const uint32_t first = std::max(mine[x].first, theirs[y].first);
      const uint32_t last = std::min(mine[x].last, theirs[y].last);
      if (first <= last) AppendEdge(&edges, {first, last, add(mine[x].to, theirs[y].to)});
      (mine[x].last < theirs[y].last ? x : y)++;
    }
    states[i].edges = std::move(edges);
  }
  return Automaton(std::move(states));
}

Automaton Automaton::Complement() const {
  std::vector<State> states = states_;
  if (states.empty()) states.emplace_back();
  const auto sink = static_cast<int32_t>(states.size());
  states.emplace_back();
  for (State& state : states) {
    state.accepts = !state.accepts;
    CharSet covered;
    for (const Edge& edge : state.edges) covered.Add(CharRange{edge.first, edge.last});
    for (const CharRange range : covered.Complement().Intersect(CharSet::AllText()).ranges())
      state.edges.push_back({range.first, range.last, sink});
    std::sort(state.edges.begin(), state.edges.end(),
              [](const Edge& a, const Edge& b) { return a.first < b.first; });
  }
  return Automaton(std::move(states));
}

bool Automaton::Accepts(std::string_view utf8) const {
  if (empty()) return false;
  size_t state = 0;
  for (size_t at = 0; at < utf8.size();) {
    const uint32_t code = NextCodePoint(utf8, &at);
    const auto& edges = states_[state].edges;
    const auto edge = std::find_if(edges.begin(), edges.end(),
                                   [code](const Edge& e) { return code >= e.first && code <= e.last; });
    if (edge == edges.end()) return false;
    state = static_cast<size_t>(edge->to);
  }
  return states_[state].accepts;
}

void Automaton::DropDeadEnds() {
  std::vector<std::vector<int32_t>> back(states_.size());
  std::vector<int32_t> open;
  std::vector<bool> live(states_.size());
  for (size_t i = 0; i < states_.size(); ++i) {
    for (const Edge& edge : states_[i].edges)
      back[static_cast<size_t>(edge.to)].push_back(static_cast<int32_t>(i));
    if (!states_[i].accepts) continue;
    live[i] = true;
    open.push_back(static_cast<int32_t>(i));
  }
  while (!open.empty()) {
    const auto node = static_cast<size_t>(open.back());
    open.pop_back();
    for (const int32_t before : back[node]) {
      if (live[static_cast<size_t>(before)]) continue;
      live[static_cast<size_t>(before)] = true;
      open.push_back(before);
    }
  }
  if (states_.empty() || !live[0]) {
    states_.clear();
    return;
  }
  for (State& state : states_)
    std::erase_if(state.edges, [&](const Edge& edge) { return !live[static_cast<size_t>(edge.to)]; });
}

// Moore's refinement: states are equal until something tells them apart. What is not in reach falls away.
void Automaton::MergeEqualStates() {
  if (states_.empty()) return;
  std::vector<int32_t> group(states_.size());
  for (size_t i = 0; i < states_.size(); ++i) group[i] = states_[i].accepts ? 1 : 0;
  size_t count = 0;
  for (;;) {
    using Signature = std::pair<int32_t, std::vector<std::pair<uint64_t, int32_t>>>;
    std::map<Signature, int32_t> groups;
    std::vector<int32_t> next(states_.size());
    for (size_t i = 0; i < states_.size(); ++i) {
      std::vector<Edge> edges;
      for (Edge edge : states_[i].edges) {
        edge.to = group[static_cast<size_t>(edge.to)];
        AppendEdge(&edges, edge);
      }
      Signature signature{group[i], {}};
      for (const Edge& edge : edges)
        signature.second.emplace_back((static_cast<uint64_t>(edge.first) << 32U) | edge.last, edge.to);
      next[i] = groups.try_emplace(std::move(signature), static_cast<int32_t>(groups.size())).first->second;
    }
    group = std::move(next);
    if (groups.size() == count) break;
    count = groups.size();
  }
  std::vector<State> merged;
  std::vector<int32_t> place(count, -1), first;  // of a group; a state of each merged one
  const auto add = [&](int32_t state) {
    int32_t& at = place[static_cast<size_t>(group[static_cast<size_t>(state)])];
    if (at < 0) {
      at = static_cast<int32_t>(first.size());
      first.push_back(state);
    }
    return at;
  };
  add(0);
  for (size_t i = 0; i < first.size(); ++i) {
    State state{{}, states_[static_cast<size_t>(first[i])].accepts};
    for (Edge edge : states_[static_cast<size_t>(first[i])].edges) {
      edge.to = add(edge.to);
      AppendEdge(&state.edges, edge);
    }
    merged.push_back(std::move(state));
  }
  states_ = std::move(merged);
}

}  // namespace headrace::schema
