#include "cli/trace_page_parts.h"

namespace headrace::cli {

// clang-format off
const char* const kTracePageStyle = R"page(:root { --chosen: #dfeafc; --bar: #8fa1b3; --chat: #3b7ddd; --tool: #d98324; --vectors: #7d5fd3; --agent: #2a9d76; --phase: #a9c6ef; }
@media (prefers-color-scheme: dark) { :root { --chosen: #24364f; --phase: #3a5a86; } }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--back); color: var(--text); font: 13px/1.45 system-ui, sans-serif; }
header { display: flex; gap: 16px; align-items: baseline; padding: 10px 14px; border-bottom: 1px solid var(--line); }
h1 { font-size: 14px; margin: 0; } h2 { font-size: 14px; margin: 0 0 8px; overflow-wrap: anywhere; } h3 { font-size: 12px; color: var(--soft); margin: 16px 0 4px; }
code, pre, .number { font-family: ui-monospace, monospace; font-size: 12px; }
#totals { color: var(--soft); flex: 1; } input { font: inherit; padding: 3px 8px; width: 220px; }
main { flex: 1; display: flex; min-height: 0; }
#left { flex: 1 1 60%; display: flex; flex-direction: column; min-width: 0; }
#ruler { height: 22px; margin-left: 420px; position: relative; border-bottom: 1px solid var(--line); color: var(--soft); overflow: hidden; user-select: none; }
#ruler span { position: absolute; top: 3px; padding-left: 4px; border-left: 1px solid var(--line); white-space: nowrap; }
#list { flex: 1; overflow-y: scroll; position: relative; outline: none; }
#space { position: relative; } .row { position: absolute; left: 0; right: 0; height: 24px; display: flex; align-items: center; cursor: pointer; }
.row:hover { background: var(--hover); } .row.chosen { background: var(--chosen); }
.name { width: 260px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .fold { display: inline-block; width: 16px; text-align: center; color: var(--soft); }
.facts { width: 160px; text-align: right; padding-right: 10px; color: var(--soft); white-space: pre; overflow: hidden; }
.time { flex: 1; height: 100%; position: relative; overflow: hidden; } .bar { position: absolute; top: 6px; height: 12px; min-width: 2px; border-radius: 2px; background: var(--bar); }
.chat, .text_completion { background: var(--chat); } .execute_tool { background: var(--tool); } .embeddings, .rerank, .retrieval { background: var(--vectors); }
.invoke_agent, .chain { background: var(--agent); } .phase { background: var(--phase); } .failed { background: var(--error); } .error { color: var(--error); }
#detail { flex: 1 1 40%; overflow: auto; padding: 14px; border-left: 1px solid var(--line); min-width: 0; }
.message { border-left: 3px solid var(--line); padding: 2px 0 2px 10px; margin: 8px 0; } .message.user { border-color: var(--agent); } .message.assistant { border-color: var(--chat); }
.message.tool { border-color: var(--tool); } .role { color: var(--soft); font-size: 12px; } pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 2px 0; }
img { max-width: 100%; max-height: 320px; display: block; } table { border-collapse: collapse; } td { padding: 1px 12px 1px 0; vertical-align: top; overflow-wrap: anywhere; } td:first-child { color: var(--soft); white-space: nowrap; }
)page";

const char* const kTracePageBody = R"page(<header><h1>Trace <code id="trace"></code></h1><div id="totals"></div><input id="filter" type="search" placeholder="Filter: name, model, service" aria-label="Filter"></header>
<main><div id="left"><div id="ruler" title="Drag to zoom, double-click for all"></div><div id="list" tabindex="0"><div id="space"></div></div></div><aside id="detail"></aside></main>
)page";

const char* const kTracePageScript = R"page(const trace = JSON.parse(byId("waterfall").textContent);
const count = trace.name.length, height = 24, all = Math.max(1, trace.micros);
const list = byId("list"), space = byId("space"), ruler = byId("ruler");
let shown = [], folded = new Set(), chosen = -1, from = 0, to = all;

function time(micros) {
  const seconds = micros / 1e6;
  return seconds >= 100 ? seconds.toFixed(0) + " s" : seconds >= 1 ? seconds.toFixed(2) + " s" : seconds >= 0.001 ? (seconds * 1e3).toFixed(1) + " ms" : micros + " µs";
}
function tokens(i) {
  const some = trace.prompt[i] !== null || trace.answer[i] !== null;
  return some ? (trace.prompt[i] ?? 0).toLocaleString("en") + " → " + (trace.answer[i] ?? 0).toLocaleString("en") : "";
}
const money = (cost) => cost === null ? "" : "$" + (cost >= 1 ? cost.toFixed(2) : cost.toPrecision(2));

// Which rows there are: of a filter those that match, else all that no folded one hides.
function choose() {
  const wanted = byId("filter").value.toLowerCase();
  shown = [];
  let hidden = Infinity;
  for (let i = 0; i < count; ++i) {
    if (wanted) {
      if ((trace.name[i] + " " + trace.model[i] + " " + trace.service[i]).toLowerCase().includes(wanted)) shown.push(i);
      continue;
    }
    if (trace.depth[i] > hidden) continue;
    hidden = folded.has(i) ? trace.depth[i] : Infinity;
    shown.push(i);
  }
  space.style.height = shown.length * height + "px";
  draw();
}

function drawRow(place) {
  const i = shown[place], row = element("div", i === chosen ? "row chosen" : "row");
  row.style.top = place * height + "px";
  const name = element("div", "name"), inner = i + 1 < count && trace.depth[i + 1] > trace.depth[i];
  name.style.paddingLeft = 6 + 14 * Math.min(trace.depth[i], 12) + "px";
  const fold = element("span", "fold", inner ? (folded.has(i) ? "▸" : "▾") : "");
  fold.onclick = (event) => {
    if (!inner) return;
    event.stopPropagation();
    if (!folded.delete(i)) folded.add(i);
    choose();
  };
  name.append(fold, element("span", trace.error[i] ? "error" : "", trace.name[i] || "(no name)"));
  name.title = trace.name[i];
  const lane = element("div", "time"), bar = element("div", "bar " + trace.kind[i].replace(/[^a-z_]/g, "") + (trace.error[i] ? " failed" : ""));
  bar.style.left = (trace.start[i] - from) / (to - from) * 100 + "%";
  bar.style.width = trace.length[i] / (to - from) * 100 + "%";
  lane.append(bar);
  row.append(name, element("div", "facts number", [tokens(i), time(trace.length[i])].filter(Boolean).join("  ")), lane);
  row.onclick = () => show(i);
  return row;
}

// Only what is in sight.
function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / height) - 8);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 8);
  const rows = [];
  for (let place = first; place < last; ++place) rows.push(drawRow(place));
  space.replaceChildren(...rows);
  const marks = [];
  for (let k = 0; k < 6; ++k) {
    const mark = element("span", "number", time(Math.round(from + (to - from) * k / 6)));
    mark.style.left = k / 6 * 100 + "%";
    marks.push(mark);
  }
  ruler.replaceChildren(...marks);
}

// The texts of a span; null while the page is still read.
const blocks = new Map();
function textsOf(span) {
  const block = Math.floor(span / trace.block);
  if (!blocks.has(block)) {
    const there = byId("texts" + block);
    if (!there) return null;
    blocks.set(block, JSON.parse(there.textContent));
  }
  return blocks.get(block)[span % trace.block];
}
// A text, with the pictures that were cut out of it.
let pictures = null;
function writing(text) {
  if (!pictures && byId("pictures")) pictures = JSON.parse(byId("pictures").textContent);
  const box = element("div");
  text = pretty(text);
  let at = 0;
  for (const match of text.matchAll(/media:sha256:([0-9a-f]{64})/g)) {
    const found = pictures?.[match[1]];
    if (!found || !/^image\/(png|jpeg|gif|webp)$/.test(found.type ?? "")) continue;
    box.append(element("pre", "", text.slice(at, match.index)));
    const image = element("img");
    image.src = "data:" + found.type + ";base64," + found.base64;
    image.alt = found.type;
    box.append(image);
    at = match.index + match[0].length;
  }
  box.append(element("pre", "", text.slice(at)));
  return box;
}
function message(role, content, calls) {
  const box = element("div", "message " + String(role).replace(/[^a-z]/g, ""));
  box.append(element("div", "role", role));
  for (const part of Array.isArray(content) ? content : content === undefined || content === null ? [] : [content])
    box.append(writing(part?.type === "text" ? part.text : part?.type === "image_url" ? part.image_url?.url ?? part : part));
  for (const call of Array.isArray(calls) ? calls : []) {
    const made = call?.function ?? call;
    box.append(element("pre", "", (made?.name ?? "") + "(" + pretty(made?.arguments ?? "") + ")"));
  }
  return box;
}
function section(into, title, ...parts) { into.append(element("h3", "", title), ...parts); }

function conversation(box, texts) {
  const input = parsed(texts.input ?? ""), said = [];
  if (Array.isArray(input?.messages)) {
    for (const one of input.messages) said.push(message(one?.role ?? "", one?.content, one?.tool_calls));
  } else if (texts.input) {
    said.push(message("input", input, null));
  } else if (texts.prompt) {
    said.push(message("prompt", texts.prompt, null));
  }
  if (texts.reasoning) said.push(message("reasoning", texts.reasoning, null));
  if (texts.answer || texts.tool_calls) said.push(message("assistant", texts.answer || undefined, parsed(texts.tool_calls ?? "[]")));
  if (said.length) section(box, "Conversation", ...said);
  if (Array.isArray(input?.tools)) section(box, "Tools", element("pre", "", pretty(input.tools)));
}

function show(i) {
  chosen = i;
  draw();
  const box = byId("detail"), texts = textsOf(trace.span[i]);
  box.replaceChildren(element("h2", "", trace.name[i] || "(no name)"));
  if (trace.error[i]) box.append(element("pre", "error", trace.error[i]));
  box.append(pairs({ began: "+" + time(trace.start[i]), took: time(trace.length[i]), operation: trace.kind[i], service: trace.service[i],
    model: trace.model[i], tokens: tokens(i), cost: money(trace.cost[i]), finish: texts?.finish, why: texts?.why, session: texts?.session, user: texts?.user, id: texts?.id }));
  if (!texts) return void box.append(element("p", "", "The page is still being read."));
  if (trace.kind[i] === "phase") return;
  conversation(box, texts);
  for (const [title, name] of [["Sampling", "sampling"], ["Attributes", "attributes"], ["Resource", "resource"]])
    if (texts[name]) section(box, title, typeof parsed(texts[name]) === "object" ? pairs(parsed(texts[name])) : element("pre", "", texts[name]));
  for (const [title, name] of [["Events", "events"], ["Links", "links"]]) if (texts[name]) section(box, title, element("pre", "", pretty(parsed(texts[name]))));
}

let pressed = null;
const placeOf = (event) => {
  const box = ruler.getBoundingClientRect();
  return from + (to - from) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
};
ruler.onpointerdown = (event) => { pressed = placeOf(event); ruler.setPointerCapture(event.pointerId); };
ruler.onpointerup = (event) => {
  const end = placeOf(event), begin = pressed;
  pressed = null;
  if (begin === null || Math.abs(end - begin) < (to - from) / 100) return;
  [from, to] = [Math.min(begin, end), Math.max(begin, end)];
  draw();
};
ruler.ondblclick = () => { from = 0; to = all; draw(); };
list.onscroll = () => requestAnimationFrame(draw);
window.onresize = draw;
byId("filter").oninput = choose;
list.onkeydown = (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const place = Math.min(shown.length - 1, Math.max(0, shown.indexOf(chosen) + step));
  if (place * height < list.scrollTop) list.scrollTop = place * height;
  if ((place + 1) * height > list.scrollTop + list.clientHeight) list.scrollTop = (place + 1) * height - list.clientHeight;
  show(shown[place]);
};

function total(values) {
  let sum = 0, any = false;
  for (let i = 0; i < count; ++i) if (trace.depth[i] === 0 && values[i] !== null) { sum += values[i]; any = true; }
  return any ? sum : null;
}
byId("trace").textContent = trace.trace;
document.title = "Trace " + trace.trace.slice(0, 8);
const sums = [total(trace.prompt), total(trace.answer)];
byId("totals").textContent = [count.toLocaleString("en") + " spans", time(trace.micros), trace.began ? new Date(trace.began / 1e3).toISOString() : "",
  sums[0] === null && sums[1] === null ? "" : (sums[0] ?? 0).toLocaleString("en") + " → " + (sums[1] ?? 0).toLocaleString("en") + " tokens", money(total(trace.cost)),
  trace.error.filter(Boolean).length ? trace.error.filter(Boolean).length + " failed" : ""].filter(Boolean).join(" · ");
choose();
document.addEventListener("DOMContentLoaded", () => show(0));
)page";
// clang-format on

}  // namespace headrace::cli
