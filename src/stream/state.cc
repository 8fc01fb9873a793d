#include "stream/state.h"

#include "base/json.h"

namespace headrace::stream {

using nlohmann::json;
using nlohmann::ordered_json;

std::string State::ToJson() const {
  ordered_json out = {{"headrace", 1}, {"seed", seed}, {"epoch", point.epoch}, {"position", point.position}};
  if (pack_length != 0) out["pack"] = {pack_length, pack_window, packed};
  ordered_json list = ordered_json::array();
  for (const auto& source : sources) {
    const Layout& layout = source.layout;
    list.push_back({source.version, source.selection, layout.rows, layout.block, layout.lanes,
                    layout.shuffle ? layout.window : -1});
  }
  out["sources"] = std::move(list);
  return out.dump();
}

Result<State> State::FromJson(const std::string& text) {
  const json in = ParseJson(text);
  const auto wrong = [] { return Status::Invalid("this is not a stream's state_dict()"); };
  if (!in.is_object() || !in.contains("headrace")) return wrong();
  if (in["headrace"] != 1) {
    return Status::Unsupported("this state_dict() is of a later version of Headrace: " +
                               in["headrace"].dump());
  }
  State state;
  for (const char* name : {"seed", "epoch", "position"}) {
    if (!in.contains(name) || !in[name].is_number_integer()) return wrong();
  }
  state.seed = in["seed"].get<uint64_t>();
  state.point = {in["epoch"].get<int64_t>(), in["position"].get<int64_t>()};
  if (in.contains("pack")) {
    const json& pack = in["pack"];
    if (!pack.is_array() || pack.size() != 3) return wrong();
    for (const json& number : pack) {
      if (!number.is_number_integer()) return wrong();
    }
    state.pack_length = pack[0].get<int64_t>();
    state.pack_window = pack[1].get<int64_t>();
    state.packed = pack[2].get<int64_t>();
    if (state.pack_length < 1 || state.pack_window < 1) return wrong();
  }
  if (state.point.epoch < 0 || state.point.position < 0 || state.packed < 0) return wrong();
  if (!in.contains("sources") || !in["sources"].is_array() || in["sources"].empty()) return wrong();
  for (const json& item : in["sources"]) {
    if (!item.is_array() || item.size() != 6) return wrong();
    for (const json& number : item) {
      if (!number.is_number_integer()) return wrong();
    }
    SourceState source;
    source.version = item[0].get<int64_t>();
    source.selection = item[1].get<uint32_t>();
    source.layout.rows = item[2].get<int64_t>();
    source.layout.block = item[3].get<int64_t>();
    source.layout.lanes = item[4].get<int64_t>();
    source.layout.window = item[5].get<int64_t>();
    source.layout.shuffle = source.layout.window >= 0;
    if (!source.layout.shuffle) source.layout.window = 0;
    const Layout& layout = source.layout;
    const int64_t most = int64_t{1} << 52;
    if (layout.rows > most || layout.block > most || layout.window > most || state.point.position > most)
      return wrong();
    if (layout.rows < 1 || layout.block < 1 || layout.lanes < 1 || layout.lanes > (1 << 20) ||
        (layout.window % layout.lanes != 0)) {
      return wrong();
    }
    state.sources.push_back(source);
  }
  return state;
}

}  // namespace headrace::stream
