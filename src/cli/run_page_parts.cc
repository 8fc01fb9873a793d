#include "cli/run_page_parts.h"

namespace headrace::cli {

// clang-format off
const char* const kRunPageStyle = R"page(:root { --s0: #3b7ddd; --s1: #d97a1e; --s2: #2a9d76; --s3: #c8352b; --s4: #7d5fd3; --s5: #8a6d3b; --s6: #d0539a; --s7: #5f6b76; --s8: #8f9a1c; --s9: #1c9fb0; }
@media (prefers-color-scheme: dark) { :root { --s0: #6ea3f0; --s1: #e8a04f; --s2: #4fbf97; --s3: #ea6a60; --s4: #a48cf0; --s5: #b99762; --s6: #e57fb8; --s7: #98a4ae; --s8: #bcc74a; --s9: #4cc3d2; } }
body { margin: 0 auto; max-width: 1500px; padding: 0 16px 48px; background: var(--back); color: var(--text); font: 13px/1.45 system-ui, sans-serif; }
header { padding: 14px 0 4px; } h1 { font-size: 18px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 14px; margin: 0; display: inline; } h3 { font-size: 12px; color: var(--soft); margin: 14px 0 4px; overflow-wrap: anywhere; }
#about { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; } #about > * { overflow-wrap: anywhere; min-width: 0; }
.state { font-weight: 600; } .state.failed, .state.killed, .state.silent, .error { color: var(--error); } .state.finished { color: var(--s2); } .soft, .note, .limit, .facts { color: var(--soft); }
#tools { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; padding: 8px 0; background: var(--back); border-bottom: 1px solid var(--line); }
#tools label { display: flex; gap: 6px; align-items: center; color: var(--soft); } select, input[type="search"], button { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: 4px; padding: 2px 8px; }
#tools input[type="range"] { width: 110px; } button { cursor: pointer; } button:hover { background: var(--hover); } :focus-visible { outline: 2px solid var(--s0); outline-offset: 1px; }
details { margin-top: 14px; border-top: 1px solid var(--line); padding-top: 10px; } #main > details:first-of-type { border-top: none; } summary { cursor: pointer; }
.note { margin: 6px 0; max-width: 100ch; } .notes { white-space: pre-wrap; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 14px; margin-top: 8px; align-items: start; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; min-width: 0; min-height: 250px; } figure.media { min-height: 0; } figure.wide { grid-column: 1 / -1; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; } figcaption b { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } figcaption .facts, figcaption .legend { width: 100%; font-size: 12px; }
figcaption input { width: 100%; } .larger { border: none; padding: 0 4px; color: var(--soft); } .plot { position: relative; } canvas { display: block; width: 100%; height: 190px; touch-action: pan-y; cursor: crosshair; } .wide canvas { height: 420px; }
.readout { display: block; min-height: 18px; font: 12px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; } .limit { margin: 2px 0 0; font-size: 11px; } .limit:empty { display: none; } .reset { position: absolute; top: 4px; right: 14px; font-size: 11px; padding: 0 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 4px; } .legend button { border: none; padding: 1px 5px; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .legend button[aria-pressed="false"] { opacity: .4; text-decoration: line-through; }
.chip { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
.scroll { overflow: auto; max-height: 420px; margin-top: 6px; } table { border-collapse: collapse; } th { text-align: left; font-weight: 600; color: var(--soft); position: sticky; top: 0; background: var(--back); } th, td { padding: 2px 14px 2px 0; vertical-align: top; overflow-wrap: anywhere; max-width: 60ch; } td:first-child { min-width: 8ch; }
tbody tr:hover { background: var(--hover); } code, pre, .number { font: 12px/1.5 ui-monospace, monospace; } pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; } .more { margin: 6px 0; }
ul { margin: 4px 0; padding-left: 18px; } li { overflow-wrap: anywhere; } .items { display: flex; flex-wrap: wrap; gap: 10px; margin-top: 6px; } .item { min-width: 0; max-width: 100%; flex: 0 1 auto; } .item pre { max-height: 260px; overflow: auto; } .item:only-child { flex: 1; }
img { max-width: 100%; max-height: 320px; display: block; min-width: min(100%, 64px); image-rendering: auto; } audio { width: 100%; } .bars { display: flex; align-items: flex-end; gap: 1px; width: 100%; min-width: 220px; height: 110px; } .bars div { flex: 1; background: var(--s0); min-height: 0; } .ends { display: flex; justify-content: space-between; gap: 8px; color: var(--soft); font-size: 11px; }
.output { max-height: 480px; overflow: auto; border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; margin-top: 6px; }
@media (max-width: 500px) { body { padding: 0 8px 32px; } th, td { padding-right: 8px; } #tools { position: static; } }
)page";

const char* const kRunPageBody = R"page(<header><h1 id="title"></h1><div id="about"></div></header>
<nav id="tools" aria-label="How curves are shown"></nav>
<main id="main"></main>
)page";

const char* const kRunPageScript = R"page(function short(value) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 8 });
}
// With the digits that tell neighbours on an axis apart.
function tickText(value, size) {
  const digits = value === 0 ? 1 : Math.min(12, Math.max(1, Math.floor(Math.log10(Math.abs(value)) + 1e-9) - Math.floor(Math.log10(size) + 1e-9) + 1)), all = Math.abs(value);
  if (all !== 0 && (all < 1e-4 || all >= 1e9)) return value.toExponential(digits - 1).replace("e+", "e");
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 12 });
}
const many = (count, one, more) => count.toLocaleString("en") + " " + (count === 1 ? one : more ?? one + "s");
function duration(micros) {
  const sign = micros < 0 ? "−" : "", seconds = Math.abs(micros) / 1e6;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]].filter(([size]) => seconds >= size);
  if (!parts.length) return sign + (seconds === 0 ? "0 s" : seconds < 1e-3 ? short(seconds * 1e6) + " µs" : seconds < 1 ? short(seconds * 1e3) + " ms" : short(Number(seconds.toFixed(3))) + " s");
  const [size, name] = parts[0], [less, small] = { d: [3600, "h"], h: [60, "min"], min: [1, "s"] }[name];
  const whole = Math.floor(seconds / size), rest = Math.floor((seconds - whole * size) / less);
  return sign + whole + " " + name + (rest ? " " + rest + " " + small : "");
}
const times = [1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 1728000, 4320000, 8640000].map((s) => s * 1e6);
function ticks(from, to, most, steps) {
  const wanted = (to - from) / most, power = 10 ** Math.floor(Math.log10(wanted));
  const size = steps ? steps.find((one) => one >= wanted) ?? 31536e9 * Math.ceil(wanted / 31536e9) : [1, 2, 5, 10].map((one) => one * power).find((one) => one >= wanted * 0.999) ?? 10 * power;
  const found = [];
  for (let at = Math.ceil(from / size) * size, i = 0; at <= to && i < 50; at += size, ++i) found.push(Math.abs(at) < size / 1e6 ? 0 : at);
  return found;
}
function logTicks(low, high, most) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high)), each = Math.max(1, Math.ceil((to - from) / most)), found = [];
  for (let power = from; power <= to; power += each)
    for (const part of to - from <= 2 ? [1, 2, 5] : [1]) if (part * 10 ** power >= low * 0.999 && part * 10 ** power <= high * 1.001) found.push(part * 10 ** power);
  return found.length > 1 ? found : ticks(low, high, most).filter((one) => one > 0);
}

const page = JSON.parse(byId("run").textContent);
const main = byId("main"), several = page.runs.length > 1;
for (const chart of page.charts) for (const one of chart.series) Object.assign(one, page.facts[one.fact], { name: one.name });
// What curves and pictures are made of stands behind this script.
const ready = new Promise((done) => document.addEventListener("DOMContentLoaded", done));

function number(told) { return typeof told === "string" ? { inf: Infinity, "-inf": -Infinity, nan: NaN }[told] : told; }
function factsText(one) {
  const odd = [[one.nans, "NaN"], [one.plus, "+∞"], [one.minus, "−∞"]].filter(([count]) => count > 0).map(([count, name]) => count.toLocaleString("en") + " " + name);
  return [many(one.count, "point"), "last " + short(number(one.last)), ...(one.min === null ? [] : ["min " + short(one.min), "max " + short(one.max)]), ...odd].map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
}
function section(title, open, ...parts) {
  const box = element("details"), head = element("summary");
  head.append(element("h2", "", title));
  box.open = open;
  box.append(head, ...parts);
  main.append(box);
  return box;
}
function note(text) { return element("p", "note", text); }
function chip(run) {
  const made = element("span", "chip");
  made.style.background = "var(--s" + run % 10 + ")";
  return made;
}

// ---- tables: the first rows, and a button for the others
const firstRows = 100;
function table(names, rows, cell) {
  const box = element("div", "scroll"), made = element("table", "grid"), head = element("tr"), body = element("tbody");
  for (const name of names) {
    const one = element("th");
    one.scope = "col";
    one.append(name);
    head.append(one);
  }
  const top = element("thead");
  top.append(head);
  made.append(top, body);
  box.append(made);
  const add = (from, to) => {
    for (const row of rows.slice(from, to)) {
      const line = element("tr");
      for (const value of row) {
        const one = element("td", typeof value === "number" ? "number" : "");
        one.append(value instanceof Node ? value : cell ? cell(value) : typeof value === "number" ? String(value) : value ?? "");
        line.append(one);
      }
      body.append(line);
    }
  };
  add(0, firstRows);
  if (rows.length > firstRows) {
    const more = element("button", "more", "Show all " + rows.length.toLocaleString("en") + " rows");
    more.onclick = () => { more.remove(); add(firstRows); };
    box.append(more);
  }
  return box;
}
function bag(list) { return table(["name", "value"], list.map(([name, value]) => [name, element("pre", "", pretty(value))])); }

// ---- curves
const charts = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    let chart = charts.get(target);
    if (!chart && isIntersecting) charts.set(target, chart = new Chart(target.told, target.querySelector(".plot")));
    if (!chart || chart.visible === isIntersecting) continue;
    chart.visible = isIntersecting;
    if (isIntersecting) chart.draw();
    else chart.canvas.width = 0;  // thousands of pictures take gigabytes
  }
}, { rootMargin: "200px" });
const sized = new ResizeObserver((entries) => { for (const { target } of entries) charts.get(target)?.draw(); });
function redraw() { for (const chart of charts.values()) { chart.cursor = null; chart.draw(); } }

function figure(told) {
  const made = element("figure"), head = element("figcaption"), name = element("b", "", told.key), larger = element("button", "larger", "⤢");
  made.told = told;
  name.title = told.key;
  larger.title = "Larger";
  larger.ariaLabel = "Larger: " + told.key.slice(0, 100);
  larger.ariaPressed = "false";
  larger.onclick = () => { larger.ariaPressed = String(made.classList.toggle("wide")); };
  head.append(name, larger);
  const plot = element("div", "plot");
  if (told.series.length > 1) {
    const legend = element("div", "legend");
    for (const one of told.series) {
      const button = element("button"), mark = element("span", "chip");
      mark.style.background = "var(--s" + one.colour % 10 + ")";
      button.ariaPressed = "true";
      button.title = factsText(one);
      button.append(mark, one.name);
      button.onclick = () => {
        const chart = charts.get(made);
        if (!chart) return;
        if (!chart.hidden.delete(one)) chart.hidden.add(one);
        button.ariaPressed = String(!chart.hidden.has(one));
        chart.draw();
      };
      legend.append(button);
    }
    head.append(legend);
  } else {
    head.append(element("div", "facts", factsText(told.series[0])));
  }
  made.append(head, plot);
  ready.then(() => { seen.observe(made); sized.observe(made); });
  return made;
}
// Those whose names begin alike stand together.
function figures(into, list) {
  const groups = new Map();
  for (const told of list) {
    const slash = told.key.indexOf("/", told.system ? 4 : 0), group = slash > 0 ? told.key.slice(0, slash) : "";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(told);
  }
  for (const [name, members] of groups) {
    if (name && groups.size > 1) into.append(element("h3", "", name));
    const grid = element("div", "figures");
    grid.append(...members.map(figure));
    into.append(grid);
  }
}
function tools() {
  const box = byId("tools"), field = (label, made) => {
    const one = element("label", "", label + " ");
    one.append(made);
    box.append(one);
    return made;
  };
  const axis = field("x", element("select"));
  for (const [value, text] of [["step", "step"], ["time", "time since the start"]]) {
    const option = element("option", "", text);
    option.value = value;
    axis.append(option);
  }
  axis.onchange = () => { shown.axis = axis.value; redraw(); };
  const log = field("log y", element("input"));
  log.type = "checkbox";
  log.onchange = () => { shown.log = log.checked; redraw(); };
  const smooth = field("smooth", element("input"));
  Object.assign(smooth, { type: "range", min: 0, max: 0.99, step: 0.01, value: 0, title: "Off" });
  smooth.oninput = () => {
    shown.smooth = Number(smooth.value);
    smooth.title = shown.smooth ? "Exponential moving average, weight " + shown.smooth : "Off";
    redraw();
  };
  const filter = field("", element("input"));
  Object.assign(filter, { type: "search", placeholder: "Filter curves", ariaLabel: "Filter curves", id: "filter" });
  filter.oninput = () => {
    const wanted = filter.value.toLowerCase();
    for (const one of document.querySelectorAll("figure")) if (one.told) one.hidden = !one.told.key.toLowerCase().includes(wanted);
  };
}
function curves() {
  const own = page.charts.filter((one) => !one.system);
  const box = section("Curves", true);
  if (!own.length) return void box.append(note(page.facts.length ? "Only the machine was measured: see System." : "No numbers were logged."));
  box.append(note("Drag over a curve to zoom, double-click for all of it. Every column of pixels spans the least and the greatest value that was logged there, whatever the zoom. × marks NaN, ▲ and ▼ infinities (and on a log scale what is not above zero)" + (own.some((one) => one.lives?.length) ? "; a dashed line, where a later life of the run begins, whose points stand in place of earlier ones." : ".")));
  figures(box, own);
}
function metrics(system) {
  const mine = page.facts.filter((one) => Boolean(one.system) === system);
  const rows = mine.map((one) => [one.key, ...(several ? [page.runs[one.run].name] : []), ...(page.ranks ? [one.rank] : []), number(one.last), one.min ?? "", one.max ?? "", element("span", "number", BigInt(one.step).toLocaleString("en")), element("span", "number", one.count.toLocaleString("en")),
    [[one.nans, "NaN"], [one.plus, "+∞"], [one.minus, "−∞"]].filter(([count]) => count > 0).map(([count, name]) => count + " " + name).join(", ")]);
  return table(["metric", ...(several ? ["run"] : []), ...(page.ranks ? ["rank"] : []), "last", "min", "max", "last step", "points", "not finite"], rows);
}

// ---- what else is known
function linked(entry) {
  const line = element("li");
  line.append(element("code", "", entry.kind ?? ""), " ", entry.text);
  for (const run of entry.runs ?? []) line.append(element("div", "soft", run.how + " " + run.name + " " + run.id));
  return line;
}
function lineage(run) {
  const parts = [];
  for (const [title, list] of [["Inputs", run.inputs], ["Outputs", run.outputs], ["Runs", run.related]]) {
    if (!list.length) continue;
    const items = element("ul");
    items.append(...list.map(linked));
    parts.push(element("h3", "", title), items);
  }
  return parts;
}
const pictures = /^image\/(png|jpeg|gif|webp)$/, sounds = /^audio\/(wav|x-wav|mpeg|ogg|flac|mp4|webm)$/;
const dataOf = (item) => "data:" + item.format + ";base64," + byId("a" + item.data).textContent;
function histogram({ counts, edges, nans }) {
  const most = counts.reduce((a, b) => Math.max(a, b), 1), box = element("div"), bars = element("div", "bars"), ends = element("div", "ends number");
  bars.setAttribute("role", "img");
  bars.ariaLabel = many(counts.length, "bin") + " from " + edges[0] + " to " + edges[edges.length - 1] + ", at most " + most + " in one";
  counts.forEach((count, i) => {
    const bar = element("div");
    bar.style.height = 100 * count / most + "%";
    bar.title = edges[i] + " to " + edges[i + 1] + ": " + count;
    bars.append(bar);
  });
  const all = counts.reduce((a, b) => a + b, 0).toLocaleString("en") + " values, at most " + most.toLocaleString("en") + " in a bin" + (nans ? ", " + nans.toLocaleString("en") + " NaN" : "");
  ends.append(element("span", "", short(Number(edges[0]))), element("span", "", all), element("span", "", short(Number(edges[edges.length - 1]))));
  box.append(bars, ends);
  return box;
}
function mediaItem(item) {
  const box = element("div", "item");
  if (item.left) box.append(note(item.left));
  else if (item.kind === "image" && pictures.test(item.format) && item.data !== undefined) {
    const image = element("img");
    image.alt = item.caption || "picture";
    image.src = dataOf(item);
    box.append(image);
  } else if (item.kind === "audio" && sounds.test(item.format) && item.data !== undefined) {
    const sound = element("audio");
    sound.controls = true;
    sound.src = dataOf(item);
    box.append(sound);
  } else if (item.kind === "histogram" && Array.isArray(item.facts?.counts) && Array.isArray(item.facts?.edges)) box.append(histogram(item.facts));
  else {
    const value = item.text === undefined ? item.facts ?? item.format : item.kind === "text" ? item.text : parsed(item.text);
    if (item.kind === "table" && Array.isArray(value?.columns) && Array.isArray(value?.rows)) box.append(table(value.columns.map(String), value.rows.map((row) => Array.isArray(row) ? row : [row]), (one) => typeof one === "string" ? one : JSON.stringify(one)));
    else box.append(element("pre", "", item.kind === "array" && Array.isArray(value) ? value.join(", ") : pretty(value)));
  }
  if (item.cut) box.append(note(item.cut));
  if (item.caption) box.append(element("div", "soft", item.caption));
  return box;
}
// A key's media: those of one step, and a slider over its steps.
function mediaFigure(told) {
  const made = element("figure", "media"), head = element("figcaption"), where = element("div", "facts"), space = element("div", "items");
  head.append(element("b", "", told.key), where);
  made.append(head, space);
  const show = (place) => {
    const { step, items } = told.steps[place];
    where.textContent = "step " + BigInt(step).toLocaleString("en") + (told.rank ? ", rank " + told.rank : "") + (told.steps.length < told.all ? " · " + told.steps.length + " of " + told.all.toLocaleString("en") + " steps are on this page" : "");
    space.replaceChildren(...items.map(mediaItem));
  };
  if (told.steps.length > 1) {
    const slider = element("input");
    Object.assign(slider, { type: "range", min: 0, max: told.steps.length - 1, value: told.steps.length - 1, ariaLabel: "Step of " + told.key.slice(0, 100) });
    slider.oninput = () => show(Number(slider.value));
    head.append(slider);
  }
  show(told.steps.length - 1);
  return made;
}
function media() {
  if (!page.media.length) return;
  const grid = element("div", "figures");
  const build = (from, to) => grid.append(...page.media.slice(from, to).map(mediaFigure));
  ready.then(() => build(0, firstRows));
  const box = section("Media", true, ...(page.mediaNote ? [note(page.mediaNote)] : []), grid);
  if (page.media.length <= firstRows) return;
  const more = element("button", "more", "Show all " + page.media.length.toLocaleString("en"));
  more.onclick = () => { more.remove(); build(firstRows); };
  box.append(more);
}
function output() {
  if (!page.output.length) return;
  const text = element("pre", "output");
  text.tabIndex = 0;
  for (const { error, text: said } of page.output) text.append(element("span", error ? "error" : "", said));
  section("Output", true, ...(page.outputNote ? [note(page.outputNote)] : []), text);
}
function about(run) {
  const state = element("span", "state " + run.state.replace(/[^a-z]/g, ""), run.state);
  const box = byId("about");
  box.append(state, element("code", "", run.id), ...run.about.filter(([, value]) => value).map(([name, value]) => {
    const one = element("span");
    one.append(element("span", "soft", name + " "), value);
    return one;
  }));
  if (run.reason) box.append(element("span", "error", run.reason));
  if (run.notes) main.append(element("p", "notes", run.notes));
}
function differences() {
  const heads = page.runs.map((run, i) => {
    const one = element("span");
    one.append(chip(i), run.name);
    return one;
  });
  const rows = page.differences.map(({ what, values }) => [what, ...values.map((value) => value === null ? element("span", "soft", "–") : element("pre", "", pretty(value)))]);
  section("Differences", true, rows.length ? table(["", ...heads], rows) : note("Nothing that is known of them differs."), ...(page.same ? [note(many(page.same, "value is", "values are") + " the same in all.")] : []));
}

document.title = page.runs.map((run) => run.name || run.id.slice(0, 8)).join(" · ").slice(0, 120);
byId("title").textContent = several ? many(page.runs.length, "run") : page.runs[0].name;
tools();
for (const text of page.notes) main.append(note(text));
if (several) {
  byId("about").append(...page.runs.map((run, i) => {
    const one = element("span");
    one.append(chip(i), element("b", "", run.name), " ", ...(run.name.endsWith(run.id.slice(0, 8)) ? [] : [element("code", "", run.id.slice(0, 8))]), " " + run.state);
    return one;
  }));
  differences();
} else about(page.runs[0]);
curves();
if (page.facts.some((one) => !one.system)) section("Metrics", !several, metrics(false));
if (!several) {
  const run = page.runs[0];
  for (const [title, list] of [["Config", run.config], ["Summary", run.summary]]) if (list.length) section(title, true, bag(list));
  const used = lineage(run);
  if (used.length) section("Inputs and outputs", true, ...used);
  media();
  output();
}
const machine = page.charts.filter((one) => one.system);
if (machine.length || page.facts.some((one) => one.system)) figures(section("System", false, note("What the machine did: means of ten seconds. Its steps are seconds."), metrics(true)), machine);
if (!several) for (const [title, list] of page.runs[0].more) section(title, false, typeof list === "string" ? element("pre", "", list) : bag(list));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
)page";
// clang-format on

}  // namespace headrace::cli
