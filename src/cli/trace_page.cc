#include "cli/trace_page.h"

#include <algorithm>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/page.h"
#include "cli/render.h"
#include "cli/trace_page_parts.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

constexpr size_t kSpansOfABlock = 128;  // whose texts are parsed when one of them is looked at

ordered_json Known(double value) { return value < 0 ? ordered_json() : ordered_json(value); }
ordered_json Known(int64_t value) { return value < 0 ? ordered_json() : ordered_json(value); }

// What the waterfall is drawn from, column by column.
ordered_json Waterfall(const std::string& trace, const TraceRows& rows,
                       const std::vector<trace::TreeSpan>& tree) {
  int64_t begin = INT64_MAX, end = 0;
  for (const auto& span : tree) {
    if (span.started < 0) continue;
    begin = std::min(begin, span.started);
    end = std::max(end, span.started + static_cast<int64_t>(span.seconds * 1e6));
  }
  ordered_json page = {{"trace", trace},
                       {"began", begin == INT64_MAX ? 0 : begin},
                       {"micros", std::max<int64_t>(0, end - begin)}};
  ordered_json names, depths, starts, lengths, kinds, services, models, prompts, answers, costs, errors,
      spans, ids;
  for (const auto& span : tree) {
    const bool part = span.phase != trace::Phase::kNone;
    names.push_back(part ? PhaseName(span.phase) : Printable(rows.Text(span.span, "name"), 200));
    depths.push_back(span.depth);
    starts.push_back(span.started < 0 ? 0 : span.started - begin);
    lengths.push_back(static_cast<int64_t>(span.seconds * 1e6));
    kinds.push_back(part ? "phase" : rows.Text(span.span, "operation"));
    services.push_back(part ? "" : rows.Text(span.span, "service"));
    models.push_back(part ? "" : rows.Text(span.span, "model"));
    prompts.push_back(Known(span.prompt_tokens));
    answers.push_back(Known(span.answer_tokens));
    costs.push_back(Known(span.cost));
    errors.push_back(part ? "" : Shortened(rows.Text(span.span, "error")));
    spans.push_back(span.span);
  }
  page["name"] = names;
  page["depth"] = depths;
  page["start"] = starts;
  page["length"] = lengths;
  page["kind"] = kinds;
  page["service"] = services;
  page["model"] = models;
  page["prompt"] = prompts;
  page["answer"] = answers;
  page["cost"] = costs;
  page["error"] = errors;
  page["span"] = spans;
  page["block"] = kSpansOfABlock;
  return page;
}

ordered_json Details(const TraceRows& rows, size_t row) {
  ordered_json details = ordered_json::object();
  for (const char* name : {"id", "span_id", "parent", "finish"})
    if (!rows.IsNull(row, name)) details[name] = rows.Text(row, name);
  for (const char* name : kDetails)
    if (!rows.IsNull(row, name)) details[name] = Shortened(rows.Text(row, name));
  return details;
}

}  // namespace

const char* PhaseName(trace::Phase phase) {
  switch (phase) {
    case trace::Phase::kNone:
      return "";
    case trace::Phase::kQueue:
      return "queue";
    case trace::Phase::kPrefill:
      return "prefill";
    case trace::Phase::kDecode:
      return "decode";
  }
  return "";
}

// The waterfall's data and script come before the texts, so that a browser paints while it still reads those.
Status WriteTracePage(const std::string& path, const std::string& trace, const TraceRows& rows,
                      const std::vector<trace::TreeSpan>& tree,
                      const std::map<std::string, Picture>& pictures) {
  std::string page = PageHead("Trace", kTracePageStyle) + kTracePageBody;
  page += DataElement("waterfall", Waterfall(trace, rows, tree));
  page += PageScript({kTracePageScript});
  for (size_t from = 0; from < rows.size(); from += kSpansOfABlock) {
    ordered_json block = ordered_json::array();
    for (size_t row = from; row < std::min(rows.size(), from + kSpansOfABlock); ++row)
      block.push_back(Details(rows, row));
    page += DataElement("texts" + std::to_string(from / kSpansOfABlock), block);
  }
  ordered_json media = ordered_json::object();
  for (const auto& [sum, picture] : pictures)
    media[sum] = {{"type", picture.type}, {"base64", EncodeBase64(picture.bytes)}};
  page += DataElement("pictures", media);
  page += "</body></html>\n";
  return ReplaceFile(path, page, /*sync=*/false);
}

}  // namespace headrace::cli
