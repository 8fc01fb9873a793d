#include "cli/page.h"

#include "base/json.h"
#include "base/utf8.h"

namespace headrace::cli {
namespace {

// As the text of a script element: no "<" is left that could end it, or begin a comment.
std::string ScriptText(const nlohmann::ordered_json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size() + text.size() / 64);
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

// clang-format off
constexpr char kHead[] = R"page(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:">
<meta name="viewport" content="width=device-width">
<title>)page";
constexpr char kColours[] = R"page(</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1c2127; --soft: #5f6b76; --line: #e3e6e9; --hover: #f2f5f8; --error: #c8352b; }
@media (prefers-color-scheme: dark) { :root { --back: #16191d; --text: #e4e7ea; --soft: #93a0ab; --line: #2b3137; --hover: #1f242a; --error: #ea6a60; } }
* { box-sizing: border-box; }
)page";
constexpr char kHelpers[] = R"page("use strict";
const byId = (id) => document.getElementById(id);
function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}
function parsed(text) {
  try { return JSON.parse(text); } catch { return text; }
}
function pretty(value) {
  if (typeof value === "string") return value;
  try { return JSON.stringify(value, null, 2); } catch { return "(nested too deep)"; }
}
function pairs(object) {
  const table = element("table");
  for (const [name, value] of Object.entries(object)) {
    if (value === "" || value === null || value === undefined) continue;
    const row = element("tr"), cell = element("td");
    cell.append(element("pre", "", pretty(value)));
    row.append(element("td", "", name), cell);
    table.append(row);
  }
  return table;
}
)page";
// clang-format on

}  // namespace

std::string PageHead(std::string_view title, std::string_view style) {
  return std::string(kHead).append(title).append(kColours).append(style).append("</style></head>\n<body>\n");
}

std::string PageScript(std::initializer_list<std::string_view> parts) {
  std::string script = std::string("<script>\n") + kHelpers;
  for (const std::string_view part : parts) script += part;
  return script + "</script>\n";
}

std::string DataElement(const std::string& id, const nlohmann::ordered_json& value) {
  return R"(<script type="application/json" id=")" + id + "\">" + ScriptText(value) + "</script>\n";
}

std::string TextElement(const std::string& id, std::string_view text) {
  std::string element = R"(<script type="text/plain" id=")" + id + "\">";
  return element.append(text).append("</script>\n");
}

std::string Shortened(std::string text, size_t most) {
  if (text.size() <= most) return text;
  const size_t all = text.size();
  text.resize(CompleteUtf8(std::string_view(text).substr(0, most)));
  return text + "… (" + std::to_string(all - text.size()) + " bytes more: see the row)";
}

}  // namespace headrace::cli
