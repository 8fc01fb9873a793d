#include "cli/run_page_parts.h"

namespace headrace::cli {

// clang-format off
const char* const kPlotScript = R"page(// Arrays are base64 in elements of their own, and are read when a curve is first drawn.
const arrays = new Map();
const kinds = { f8: Float64Array, f4: Float32Array, u4: Uint32Array, i8: BigInt64Array };
function array(told) {
  if (!told) return null;
  if (arrays.has(told.at)) return arrays.get(told.at);
  const text = byId("a" + told.at).textContent;
  let bytes;
  if (Uint8Array.fromBase64) {
    bytes = Uint8Array.fromBase64(text);
  } else {
    const raw = atob(text);
    bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; ++i) bytes[i] = raw.charCodeAt(i);
  }
  const made = new kinds[told.type](bytes.buffer);
  arrays.set(told.at, made);
  return made;
}
// Steps as they were logged: a function of the place.
function stepsOf(told) {
  const first = BigInt(told.first);
  if (told.stride !== undefined) return (i) => first + BigInt(told.stride) * BigInt(i);
  const offsets = array(told.offsets);
  return told.offsets.type === "i8" ? (i) => offsets[i] : (i) => first + BigInt(offsets[i]);
}
function floats(count, at) {
  const made = new Float64Array(count);
  for (let i = 0; i < count; ++i) made[i] = at(i);
  return made;
}
const wide = 2 ** 53;

// A series by step or by time, its places ascending: points (width 0), or buckets, which begin at x and are `width` wide. Steps are
// counted from `origin`, times in microseconds from the run's beginning.
function loaded(series, axis, origin) {
  series.cache ??= {};
  const known = series.cache[axis];
  if (known) return known;
  return series.cache[axis] = series.buckets ? loadBuckets(series.buckets[axis], axis, origin) : loadPoints(series.points, axis, origin);
}
function loadBuckets(told, axis, origin) {
  const width = Number(2n ** BigInt(told.shift)), offsets = array(told.offsets), n = array(told.n);
  const first = BigInt(told.first) * 2n ** BigInt(told.shift) - (axis === "step" ? origin : 0n), start = Number(first);
  return { width, x: floats(n.length, (i) => start + offsets[i] * width), min: array(told.min), max: array(told.max), mean: array(told.mean), n,
    nans: array(told.nans), plus: array(told.plus), minus: array(told.minus), time: null };
}
function loadPoints(told, axis, origin) {
  const values = array(told.values), count = values.length, step = stepsOf(told.steps), ticks = array(told.times.ticks);
  const time = (i) => told.times.first + told.times.unit * (ticks ? ticks[i] : 0);
  const at = axis === "step" ? (i) => Number(step(i) - origin) : time, x = floats(count, at);
  let order = null;
  for (let i = 1; i < count && !order; ++i) if (x[i] < x[i - 1]) order = Uint32Array.from(x.keys()).sort((a, b) => x[a] - x[b] || a - b);
  const place = order ? (i) => order[i] : (i) => i;
  const sorted = order ? floats(count, (i) => values[order[i]]) : values;
  return { width: 0, x: order ? floats(count, (i) => x[order[i]]) : x, min: sorted, max: sorted, mean: sorted, n: null, nans: null, plus: null, minus: null,
    step: (i) => step(place(i)), time: (i) => time(place(i)) };
}
// The first place in ascending `x` that is not below.
function lowerBound(x, value) {
  let low = 0, high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

// [from, to) in equal columns: of each the least and the greatest of all finite values, exactly, how many there are, and what else.
// Buckets lie in one column whole where snapped() made the window.
function columnsOf(data, from, to, count) {
  const made = { min: new Float64Array(count).fill(Infinity), max: new Float64Array(count).fill(-Infinity), n: new Float64Array(count),
    nans: new Float64Array(count), plus: new Float64Array(count), minus: new Float64Array(count), from, to, count };
  for (let i = lowerBound(data.x, from); i < data.x.length && data.x[i] < to; ++i) {
    const c = Math.min(count - 1, Math.floor((data.x[i] - from) * count / (to - from))), low = data.min[i], high = data.max[i];
    if (data.n) {
      made.nans[c] += data.nans ? data.nans[i] : 0;
      made.plus[c] += data.plus ? data.plus[i] : 0;
      made.minus[c] += data.minus ? data.minus[i] : 0;
      if (data.n[i] === 0) continue;
      made.n[c] += data.n[i];
    } else if (low !== low) {
      ++made.nans[c];
      continue;
    } else if (low === Infinity) {
      ++made.plus[c];
      continue;
    } else if (low === -Infinity) {
      ++made.minus[c];
      continue;
    } else {
      ++made.n[c];
    }
    if (low < made.min[c]) made.min[c] = low;
    if (high > made.max[c]) made.max[c] = high;
  }
  return made;
}
// A window and its columns, at most `pixels`, so that every bucket lies in one column: columns are whole buckets wide, of the widest.
const fewest = 16;  // buckets in a window
function snapped(from, to, pixels, width) {
  if (width === 0) return { from, to, count: pixels };
  const begin = Math.floor(from / width) * width;
  const buckets = Math.max(fewest, Math.ceil((to - begin) / width)), each = Math.ceil(buckets / pixels), count = Math.ceil(buckets / each);
  return { from: begin, to: begin + count * each * width, count };
}

// Exponential moving averages, without the pull of the first value to zero; of buckets, of their means.
function smoothed(data, weight) {
  if (data.smooth?.weight === weight) return data.smooth.values;
  const values = new Float64Array(data.x.length);
  let sum = 0, left = 1;
  for (let i = 0; i < values.length; ++i) {
    const value = data.mean[i], n = data.n ? data.n[i] : 1;
    if (n > 0 && Number.isFinite(value)) {
      const keep = weight ** n;
      sum = sum * keep + value * (1 - keep);
      left *= keep;
    }
    values[i] = left === 1 ? NaN : sum / (1 - left);
  }
  data.smooth = { weight, values };
  return values;
}

// How all curves are shown.
const shown = { axis: "step", log: false, smooth: 0 };
const colourOf = (series) => getComputedStyle(document.documentElement).getPropertyValue("--s" + series.colour % 10).trim();
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(told, figure) {
    this.told = told;
    this.figure = figure;
    this.hidden = new Set();
    this.windows = { step: null, time: null };
    this.cursor = null;
    this.dragged = null;
    this.origin = told.origin === undefined ? 0n : BigInt(told.origin);
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "curve");
    this.readout = element("output", "readout");
    this.limit = element("p", "limit");
    this.reset = element("button", "reset", "Show all");
    this.reset.onclick = () => { this.zoom(null); this.canvas.focus(); };
    figure.append(this.canvas, this.readout, this.limit, this.reset);
    this.listen();
  }
  series() { return this.told.series.filter((one) => !this.hidden.has(one)); }
  data(series) { return loaded(series, shown.axis, this.origin); }
  width() { return Math.max(0, ...this.series().map((one) => this.data(one).width)); }
  // All that there is.
  whole() {
    let from = Infinity, to = -Infinity;
    for (const one of this.series()) {
      const { x, width } = this.data(one);
      if (!x.length) continue;
      from = Math.min(from, x[0]);
      to = Math.max(to, x[x.length - 1] + width);
    }
    if (from > to) return [0, 1];
    return this.width() > 0 ? [from, to] : [from, to + ((to - from) / 500 || 1)];
  }
  window(pixels) {
    const [from, to] = this.windows[shown.axis] ?? this.whole();
    return snapped(from, to, pixels, this.width());
  }
  zoom(range) {
    if (range) {
      const [low, high] = this.whole(), least = shown.axis === "step" ? 4 : 1000, middle = (range[0] + range[1]) / 2, half = Math.max(least, range[1] - range[0]) / 2;
      range = [Math.max(low, middle - half), Math.min(high, middle + half)];
      if (range[1] - range[0] >= high - low) range = null;
    }
    this.windows[shown.axis] = range;
    this.cursor = null;
    this.draw();
  }
  stepText(x) { return (this.origin + BigInt(Math.round(x))).toLocaleString("en"); }

  draw() {
    if (!this.visible) return;
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    if (box.width < 40) return;
    const canvas = this.canvas, g = canvas.getContext("2d");
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const left = Math.round(56 * ratio), right = Math.round(12 * ratio), top = Math.round(10 * ratio), bottom = Math.round(22 * ratio);
    const plot = this.plot = { ratio, left, top, width: canvas.width - left - right, height: canvas.height - top - bottom };
    const view = this.view = this.window(plot.width);
    this.columns = new Map(this.series().map((one) => [one, columnsOf(this.data(one), view.from, view.to, view.count)]));
    this.scale();
    g.font = 11 * ratio + "px system-ui, sans-serif";
    this.drawAxes(g);
    g.save();
    g.beginPath();
    g.rect(left - 3 * ratio, top - 3 * ratio, plot.width + 6 * ratio, plot.height + 6 * ratio);
    g.clip();
    for (const one of this.series()) this.drawSeries(g, one);
    g.restore();
    for (const one of this.series()) this.drawOdd(g, one);
    this.drawCursor(g);
    this.tell();
  }
  // The greatest and the least that are in sight.
  scale() {
    let low = Infinity, high = -Infinity;
    for (const [series, columns] of this.columns) {
      const data = this.data(series);
      for (let i = 0; i < columns.count; ++i) {
        if (columns.n[i] === 0 || (shown.log && columns.max[i] <= 0)) continue;
        low = Math.min(low, shown.log && columns.min[i] <= 0 ? columns.max[i] : columns.min[i]);
        high = Math.max(high, columns.max[i]);
      }
      if (shown.log)  // a column's least may be hidden by what is not above zero
        for (let i = lowerBound(data.x, this.view.from); i < data.x.length && data.x[i] < this.view.to; ++i)
          if (data.min[i] > 0 && data.min[i] < low) low = data.min[i];
    }
    if (low > high) [low, high] = shown.log ? [0.1, 1] : [0, 1];
    const room = shown.log ? Math.max(Math.log10(high / low) * 0.04, 0.02) : (high - low) * 0.04 || Math.abs(high) * 0.04 || 1;
    [this.low, this.high] = shown.log ? [low / 10 ** room, high * 10 ** room] : [low - room, high + room];
    if (!Number.isFinite(this.high - this.low)) [this.low, this.high] = [low / 2, high / 2].map((one) => one * 1.99);  // at the ends of what a float can be
  }
  y(value) {
    const { top, height } = this.plot;
    const part = shown.log ? Math.log(value / this.low) / Math.log(this.high / this.low) : (value / 2 - this.low / 2) / (this.high / 2 - this.low / 2);
    return top + height * (1 - part);
  }
  x(at) { return this.plot.left + (at - this.view.from) / (this.view.to - this.view.from) * this.plot.width; }
  drawAxes(g) {
    const { ratio, left, top, width, height } = this.plot, soft = colour("--soft");
    g.strokeStyle = colour("--line");
    g.fillStyle = soft;
    g.lineWidth = ratio;
    g.textBaseline = "middle";
    g.textAlign = "right";
    const rows = Math.max(2, Math.floor(height / ratio / 36));
    const marks = shown.log ? logTicks(this.low, this.high, rows) : ticks(this.low, this.high, rows);
    for (const value of marks) {
      const y = Math.round(this.y(value)) + 0.5;
      if (y < top || y > top + height) continue;
      g.beginPath();
      g.moveTo(left, y);
      g.lineTo(left + width, y);
      g.stroke();
      g.fillText(shown.log ? short(value) : tickText(value, marks.length > 1 ? marks[1] - marks[0] : 1), left - 5 * ratio, y, left - 6 * ratio);
    }
    g.textBaseline = "top";
    g.textAlign = "center";
    const most = Math.max(2, Math.floor(width / ratio / 90)), from = this.view.from, to = this.view.to;
    const base = shown.axis === "step" && (this.origin < BigInt(wide) && this.origin > -BigInt(wide)) ? Number(this.origin) : 0;
    for (const at of shown.axis === "step" ? ticks(base + from, base + to, most) : ticks(from, to, most, times)) {
      if (shown.axis === "step" && !Number.isInteger(at)) continue;
      const x = Math.round(this.x(at - base)) + 0.5;
      const text = shown.axis === "time" ? duration(at) : Math.abs(Number(this.origin)) < wide ? (Math.abs(at) >= 1e6 ? short(at) : at.toLocaleString("en")) : "+" + short(at);
      g.beginPath();
      g.moveTo(x, top + height);
      g.lineTo(x, top + height + 4 * ratio);
      g.stroke();
      const half = g.measureText(text).width / 2;
      g.fillText(text, Math.min(Math.max(x, left + half - 20 * ratio), left + width + 10 * ratio - half), top + height + 6 * ratio);
    }
    g.beginPath();
    g.moveTo(left, top + height + 0.5);
    g.lineTo(left + width, top + height + 0.5);
    g.stroke();
    if (shown.axis === "time") return;
    g.setLineDash([4 * ratio, 4 * ratio]);
    g.strokeStyle = soft;
    for (const first of this.told.lives ?? []) {
      const at = Number(BigInt(first) - this.origin);
      if (at < from || at >= to) continue;
      g.beginPath();
      g.moveTo(this.x(at), top);
      g.lineTo(this.x(at), top + height);
      g.stroke();
    }
    g.setLineDash([]);
  }
  drawSeries(g, series) {
    const { ratio, width } = this.plot, data = this.data(series), columns = this.columns.get(series), { from, to, count } = this.view;
    g.strokeStyle = g.fillStyle = colourOf(series);
    g.lineJoin = "bevel";
    g.lineWidth = 1.4 * ratio;
    g.globalAlpha = shown.smooth ? 0.3 : 1;
    const first = lowerBound(data.x, from), last = lowerBound(data.x, to);
    if (!data.n && last - first <= count / 2) this.drawPoints(g, data, first, last);
    else if (data.n && width / count >= 3) this.drawBuckets(g, columns);
    else this.drawColumns(g, columns);
    g.globalAlpha = 1;
    if (!shown.smooth) return;
    const values = smoothed(data, shown.smooth);
    g.lineWidth = 2 * ratio;
    g.beginPath();
    for (let i = Math.max(0, first - 1); i < Math.min(data.x.length, last + 1); ++i)
      if (!(shown.log && values[i] <= 0)) g.lineTo(this.x(data.x[i] + data.width / 2), this.y(values[i]));
    g.stroke();
  }
  // Each point, and the line through them, which ends where one is no number.
  drawPoints(g, data, first, last) {
    const { ratio } = this.plot, fits = (value) => Number.isFinite(value) && !(shown.log && value <= 0);
    g.beginPath();
    let open = false;
    for (let i = Math.max(0, first - 1); i < Math.min(data.x.length, last + 1); ++i) {
      const value = data.min[i];
      if (fits(value)) g[open ? "lineTo" : "moveTo"](this.x(data.x[i]), this.y(value));
      open = fits(value);
    }
    g.stroke();
    if (last - first > this.plot.width / ratio / 6) return;
    for (let i = first; i < last; ++i) {
      if (!fits(data.min[i])) continue;
      g.beginPath();
      g.arc(this.x(data.x[i]), this.y(data.min[i]), 2.2 * ratio, 0, 7);
      g.fill();
    }
  }
  // A stroke from the least to the greatest of each column, and what connects neighbours.
  drawColumns(g, columns) {
    const { left, width } = this.plot, { count } = this.view;
    g.beginPath();
    let open = false, end = 0;
    for (let i = 0; i < count; ++i) {
      if (columns.n[i] === 0 || (shown.log && columns.max[i] <= 0)) {
        if (columns.nans[i] + columns.plus[i] + columns.minus[i] > 0 || columns.n[i] > 0) open = false;
        continue;
      }
      const x = left + (i + 0.5) * width / count, low = this.y(shown.log && columns.min[i] <= 0 ? this.low : columns.min[i]), high = this.y(columns.max[i]);
      const [near, far] = Math.abs(low - end) < Math.abs(high - end) ? [low, high] : [high, low];
      g[open ? "lineTo" : "moveTo"](x, near);
      g.lineTo(x, far === near ? far + 0.01 : far);
      open = true;
      end = far;
    }
    g.stroke();
  }
  // Columns that are several pixels wide: what is known of a bucket is that its values fill this height.
  drawBuckets(g, columns) {
    const { ratio, left, width } = this.plot, { count } = this.view, alpha = g.globalAlpha;
    for (let i = 0; i < count; ++i) {
      if (columns.n[i] === 0 || (shown.log && columns.max[i] <= 0)) continue;
      const x = left + i * width / count, top = this.y(columns.max[i]), low = this.y(shown.log && columns.min[i] <= 0 ? this.low : columns.min[i]);
      g.globalAlpha = alpha * 0.35;
      g.fillRect(x, top, width / count, low - top);
      g.globalAlpha = alpha;
      g.fillRect(x, top - 0.5 * ratio, width / count, ratio);
      g.fillRect(x, low - 0.5 * ratio, width / count, ratio);
    }
  }
  // Where values are no numbers, infinite, or not above zero on a scale of logarithms: × below, ▲ above, ▼ below.
  drawOdd(g, series) {
    const { ratio, left, top, width, height } = this.plot, columns = this.columns.get(series), { count } = this.view;
    g.strokeStyle = g.fillStyle = colourOf(series);
    g.lineWidth = 1.4 * ratio;
    const size = 3.5 * ratio, bottom = top + height - size - ratio, drawn = { cross: -99, up: -99, down: -99 };
    const triangle = (x, y, up) => {
      g.beginPath();
      g.moveTo(x - size, y + up * size);
      g.lineTo(x + size, y + up * size);
      g.lineTo(x, y - up * size);
      g.fill();
    };
    for (let i = 0; i < count; ++i) {
      const x = left + (i + 0.5) * width / count;
      const once = (kind) => x - drawn[kind] >= size && (drawn[kind] = x, true);  // one mark for those that would lie on each other
      if (columns.nans[i] > 0 && once("cross")) {
        g.beginPath();
        g.moveTo(x - size, bottom - size);
        g.lineTo(x + size, bottom + size);
        g.moveTo(x + size, bottom - size);
        g.lineTo(x - size, bottom + size);
        g.stroke();
      }
      if (columns.plus[i] > 0 && once("up")) triangle(x, top + size, 1);
      if ((columns.minus[i] > 0 || (shown.log && columns.n[i] > 0 && columns.min[i] <= 0)) && once("down")) triangle(x, bottom, -1);
    }
  }
  drawCursor(g) {
    const { ratio, left, top, width, height } = this.plot, { count } = this.view;
    if (this.dragged) {
      const [from, to] = this.dragged.map((at) => this.x(at));
      g.globalAlpha = 0.15;
      g.fillStyle = colour("--text");
      g.fillRect(Math.min(from, to), top, Math.abs(to - from), height);
      g.globalAlpha = 1;
    }
    if (this.cursor === null) return;
    g.strokeStyle = colour("--soft");
    g.lineWidth = ratio;
    const x = Math.round(left + (this.cursor + 0.5) * width / count) + 0.5;
    g.beginPath();
    g.moveTo(x, top);
    g.lineTo(x, top + height);
    g.stroke();
  }
  // What stands at the cursor: of one value itself, of several how many there are and their extremes.
  near(series) {
    const data = this.data(series), columns = this.columns.get(series), { from, to, count } = this.view;
    const holds = (i) => columns.n[i] + columns.nans[i] + columns.plus[i] + columns.minus[i];
    let place = -1;
    for (let away = 0; away < count && place < 0; ++away)
      for (const i of [this.cursor - away, this.cursor + away]) if (i >= 0 && i < count && holds(i) > 0) place = i;
    if (place < 0) return null;
    const begin = from + place * (to - from) / count, end = from + (place + 1) * (to - from) / count;
    if (!data.n && holds(place) === 1) {
      let i = Math.max(0, lowerBound(data.x, begin) - 1);
      while (Math.floor((data.x[i] - from) * count / (to - from)) < place && i + 1 < data.x.length) ++i;
      return "step " + data.step(i).toLocaleString("en") + ", +" + duration(data.time(i)) + ": " + data.min[i];
    }
    const where = shown.axis === "time" ? "+" + duration(begin) + " to +" + duration(end) : "steps " + this.stepText(Math.ceil(begin)) + "–" + this.stepText(Math.max(Math.ceil(begin), Math.ceil(end) - 1));
    const odd = [[columns.nans[place], "NaN"], [columns.plus[place], "+∞"], [columns.minus[place], "−∞"]].filter(([n]) => n > 0).map(([n, name]) => n.toLocaleString("en") + " " + name);
    const values = columns.n[place] > 0 ? [many(columns.n[place], "value") + ", min " + columns.min[place] + ", max " + columns.max[place]] : [];
    return where + ": " + [...values, ...odd].join(", ");
  }
  tell() {
    const told = this.told, lines = [];
    if (this.cursor !== null)
      for (const one of this.series()) {
        const text = this.near(one);
        if (text === null) continue;
        const line = element("div"), chip = element("span", "chip");
        chip.style.background = "var(--s" + one.colour % 10 + ")";
        line.append(...(told.series.length > 1 ? [chip, one.name + " "] : []), text);
        lines.push(line);
      }
    this.readout.replaceChildren(...lines.slice(0, 12), ...(lines.length > 12 ? [element("div", "", lines.length - 12 + " more")] : []));
    const width = this.width();
    this.limit.textContent = width === 0 ? "" : "Zoom ends at " + (shown.axis === "step" ? many(width, "step") : duration(width)) + " per bucket; the bucket’s minimum and maximum are exact.";
    this.reset.hidden = this.windows[shown.axis] === null;
    const facts = told.series.map((one) => (told.series.length > 1 ? one.name + ": " : "") + factsText(one)).slice(0, 12).join("; ");
    this.canvas.setAttribute("aria-label", told.key + " by " + shown.axis + ". " + facts + ". Arrow keys read values, + and − zoom, 0 shows all.");
  }

  // ---- people
  placeOf(event) {
    const box = this.canvas.getBoundingClientRect(), { ratio, left, width } = this.plot;
    return Math.min(1, Math.max(0, ((event.clientX - box.left) * ratio - left) / width));
  }
  at(place) { return this.view.from + place * (this.view.to - this.view.from); }
  listen() {
    const canvas = this.canvas;
    canvas.onpointerdown = (event) => {
      if (event.button !== 0 || !this.plot) return;
      const at = this.at(this.placeOf(event));
      this.dragged = [at, at];
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointermove = (event) => {
      if (!this.plot) return;
      if (this.dragged) this.dragged[1] = this.at(this.placeOf(event));
      this.cursor = Math.min(this.view.count - 1, Math.floor(this.placeOf(event) * this.view.count));
      this.readout.ariaLive = "off";
      requestAnimationFrame(() => this.draw());
    };
    canvas.onpointerup = () => {
      const range = this.dragged;
      this.dragged = null;
      if (!range) return;
      if (Math.abs(range[1] - range[0]) > (this.view.to - this.view.from) / 100) this.zoom([Math.min(...range), Math.max(...range)]);
      else this.draw();
    };
    canvas.onpointercancel = () => { this.dragged = null; this.draw(); };
    canvas.onpointerleave = canvas.onblur = () => { if (!this.dragged) { this.cursor = null; this.draw(); } };
    canvas.ondblclick = () => this.zoom(null);
    canvas.onkeydown = (event) => this.press(event);
  }
  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.view) return;
    const { from, to, count } = this.view, middle = this.cursor === null ? (from + to) / 2 : this.at((this.cursor + 0.5) / count);
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) {
      this.cursor = Math.min(count - 1, Math.max(0, (this.cursor ?? (move > 0 ? -1 : count)) + move * (event.shiftKey ? Math.ceil(count / 20) : 1)));
      this.readout.ariaLive = "polite";
      this.draw();
    } else if (event.key === "Home" || event.key === "End") {
      this.cursor = event.key === "Home" ? 0 : count - 1;
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom([middle - (to - from) / 4, middle + (to - from) / 4]);
    else if (event.key === "-") this.zoom([middle - (to - from), middle + (to - from)]);
    else if (event.key === "0" || event.key === "Escape") this.zoom(null);
    else return;
    event.preventDefault();
  }
}
)page";
// clang-format on

}  // namespace headrace::cli
