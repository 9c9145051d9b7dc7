"use strict";
// A line chart in SVG with a tooltip, for pointer, touch and keyboard. It knows nothing of runs.

const SVG = "http://www.w3.org/2000/svg";
// Corners of markers around their middle, by matplotlib's names.
const CORNERS = {
  s: [[-.9, -.9], [.9, -.9], [.9, .9], [-.9, .9]],
  "^": [[0, -1.2], [1.15, .85], [-1.15, .85]],
  v: [[0, 1.2], [1.15, -.85], [-1.15, -.85]],
  "<": [[-1.2, 0], [.85, 1.15], [.85, -1.15]],
  ">": [[1.2, 0], [-.85, 1.15], [-.85, -1.15]],
  D: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  d: [[0, -1.45], [.85, 0], [0, 1.45], [-.85, 0]],
  P: [[-.42, -1.25], [.42, -1.25], [.42, -.42], [1.25, -.42], [1.25, .42], [.42, .42], [.42, 1.25], [-.42, 1.25], [-.42, .42], [-1.25, .42], [-1.25, -.42], [-.42, -.42]],
  "*": around(10, (index) => index % 2 ? .6 : 1.5),
  star4: around(8, (index) => index % 2 ? .6 : 1.75),
  star3: around(6, (index) => index % 2 ? .5 : 1.75),
  p: around(5, () => 1.2),
  h: around(6, () => 1.2),
  8: around(8, () => 1.2),
  H: around(6, () => 1.2).map(([x, y]) => [y, x]),
  X: [[0, -.6], [.9, -1.5], [1.5, -.9], [.6, 0], [1.5, .9], [.9, 1.5], [0, .6], [-.9, 1.5], [-1.5, .9], [-.6, 0], [-1.5, -.9], [-.9, -1.5]],
};

function around(number, radius) {
  return Array.from({length: number}, (_, index) => [Math.sin(2 * Math.PI * index / number) * radius(index), -Math.cos(2 * Math.PI * index / number) * radius(index)]);
}

function node(name, attributes, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// Names without the last part that they all have, such as ".weight".
function shortened(names) {
  const end = names[0].slice(names[0].lastIndexOf("."));
  return end.startsWith(".") && names.every((name) => name.endsWith(end) && name.length > end.length) ? names.map((name) => name.slice(0, -end.length)) : names;
}

function markPath(mark, x, y, r) {
  if (mark === "cross") return `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`;
  if (mark in CORNERS) return "M" + CORNERS[mark].map(([dx, dy]) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`).join("L") + "Z";
  return `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
}

function niceTicks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw * .999) * power;
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) ticks.push(Number((index * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high, count) {
  let found = [];
  for (const digits of [[1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5, 7], [1, 2, 5], [1]]) {
    found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const digit of digits) {
        const tick = Number((digit * 10 ** power).toPrecision(3));
        if (tick >= low * .99 && tick <= high * 1.01) found.push(tick);
      }
    }
    if (found.length <= count) break;
  }
  return found.length > 1 ? found : [low, high];
}

// The position of values along an axis: {at(value), ticks, text(tick)}.
function scaleOf(axis, values, from, to, count) {
  let low = Math.min(...values), high = Math.max(...values), ticks;
  const isLog = axis.kind === "log" && low > 0;
  if (axis.kind === "names") {
    [low, high] = [-.4, axis.names.length - .6];
    const every = Math.max(1, Math.ceil(axis.names.length / count));
    ticks = axis.names.map((_, index) => index).filter((index) => index % every === 0);
  } else if (isLog) {
    if (low === high) [low, high] = [low / 1.5, high * 1.5];
    const pad = (high / low) ** .025;
    ticks = logTicks(low, high, count);
    [low, high] = [low / pad, high * pad];
  } else {
    if (axis.from !== undefined && axis.from <= low) low = axis.from;
    const pad = (high - low || Math.abs(high) * .1 || 1) * (axis.pad ?? .04);
    [low, high] = [axis.from === low ? low : low - pad, high + pad];
    ticks = niceTicks(low, high, count);
  }
  const move = isLog ? Math.log : Number, start = move(low), span = move(high) - start || 1;
  const place = (value) => (axis.reverse ? 1 - (move(value) - start) / span : (move(value) - start) / span);
  return {ticks, at: (value) => from + (to - from) * place(value)};
}

class Chart {
  // spec(): {label, x, y, series: [{name, kind, mark, dash, hollow, quiet, points: [{x, y, low, high, cross, tip()}]}]}
  constructor(host, spec) {
    [this.host, this.spec, this.active, this.isPinned] = [host, spec, null, false];
    this.tip = node("div", {class: "tip", role: "status", "aria-live": "polite", hidden: true});
    this.svg = node("svg:svg", {tabindex: "0", role: "application"});
    this.title = node("p", {class: "drawn"});
    host.append(this.title, this.svg, this.tip);
    this.svg.addEventListener("pointermove", (event) => this.isPinned || this.point(event));
    this.svg.addEventListener("pointerleave", () => this.isPinned || this.show(null));
    this.svg.addEventListener("click", (event) => { this.isPinned = false; this.point(event); this.pin(this.active !== null); });
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => this.isPinned || this.show(null));
    document.addEventListener("click", (event) => host.contains(event.target) || (this.isPinned && this.unpin()));
    new ResizeObserver(() => host.clientWidth !== this.width && host.clientWidth && this.draw()).observe(host);
    this.draw();
  }

  draw() {
    const spec = this.spec();
    this.width = this.host.clientWidth || 960;
    this.isPinned = false;
    this.active = null;
    this.tip.hidden = true;
    const narrow = this.width < 560, height = Math.round(Math.max(280, Math.min(440, this.width * .48)));
    const named = spec.x.kind === "names", longest = named ? Math.max(0, ...shortened(spec.x.names).map((name) => name.length)) : 0;
    const slanted = named && longest * 7 * spec.x.names.length > this.width - 72;
    const frame = {left: 58, right: 14, top: 12, bottom: slanted ? 116 : 46};
    const [right, bottom] = [this.width - frame.right, height + (slanted ? 60 : 0) - frame.bottom];
    const points = spec.series.flatMap((series) => series.points);
    this.svg.replaceChildren();
    this.title.textContent = spec.label;
    this.spots = [];
    this.radius = points.length > 250 ? 2.4 : 3.9;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${bottom + frame.bottom}`);
    this.svg.setAttribute("aria-label", `${spec.label}. Arrow keys move along the points, Enter keeps the details open.`);
    if (!points.length) {
      this.svg.append(node("svg:text", {x: this.width / 2, y: height / 2, "text-anchor": "middle"}, "Nothing to draw."));
      return;
    }
    const x = scaleOf(spec.x, points.map((each) => each.x), frame.left, right, named ? (narrow ? 12 : 40) : narrow ? 5 : 10);
    const y = scaleOf(spec.y, points.flatMap((each) => [each.y, each.low ?? each.y, each.high ?? each.y]), bottom, frame.top, narrow ? 5 : 7);
    const axes = node("svg:g", {"aria-hidden": "true"});
    for (const tick of y.ticks) {
      axes.append(node("svg:line", {class: "grid", x1: frame.left, x2: right, y1: y.at(tick), y2: y.at(tick)}));
      axes.append(node("svg:text", {x: frame.left - 8, y: y.at(tick) + 4, "text-anchor": "end"}, spec.y.text(tick)));
    }
    axes.append(node("svg:line", {class: "axis", x1: frame.left, x2: right, y1: bottom, y2: bottom}));
    for (const tick of x.ticks) {
      const at = x.at(tick), text = named ? shortened(spec.x.names)[tick] : spec.x.text(tick), short = text.length > 17 ? "\u2026" + text.slice(-16) : text;
      axes.append(node("svg:line", {class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4}));
      axes.append(slanted
        ? node("svg:text", {x: at, y: bottom + 14, "text-anchor": "end", transform: `rotate(-40 ${at} ${bottom + 14})`}, short)
        : node("svg:text", {x: at, y: bottom + 19, "text-anchor": "middle"}, text));
    }
    axes.append(node("svg:text", {class: "title", x: (frame.left + right) / 2, y: bottom + frame.bottom - 6, "text-anchor": "middle"}, spec.x.label));
    axes.append(node("svg:text", {class: "title", transform: `translate(14 ${(frame.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, spec.y.label));
    this.svg.append(axes);
    this.host.classList.toggle("many", spec.series.length > 6);
    for (const series of spec.series) this.svg.append(this.drawn(series, x, y, frame.left, right));
    this.cursor = node("svg:circle", {class: "cursor", r: 8, visibility: "hidden"});
    this.svg.append(this.cursor);
  }

  drawn(series, x, y, left, right) {
    const group = node("svg:g", {class: `series k${series.kind}`});
    const joined = series.points.filter((each) => !each.cross);
    const spots = joined.map((each) => [series.rule ? left : x.at(each.x), y.at(each.y), each]);
    const path = (list) => "M" + list.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
    const spread = joined.filter((each) => each.low !== null && each.low !== undefined);
    if (series.rule) spots.push(...joined.map((each) => [right, y.at(each.y), each]));
    if (spread.length > 1 || (series.rule && spread.length)) {
      const ends = series.rule ? [[left, spread[0]], [right, spread[0]]] : spread.map((each) => [x.at(each.x), each]);
      group.append(node("svg:path", {class: "band", d: path([...ends.map(([px, each]) => [px, y.at(each.high)]), ...ends.reverse().map(([px, each]) => [px, y.at(each.low)])]) + "Z"}));
    } else if (spread.length) {
      const [each] = spread;
      group.append(node("svg:line", {class: "whisker", x1: x.at(each.x), x2: x.at(each.x), y1: y.at(each.low), y2: y.at(each.high)}));
    }
    if (spots.length > 1) group.append(node("svg:path", {d: path(spots), "stroke-dasharray": series.dash}));
    for (const each of series.points) {
      const [px, py] = [series.rule ? left + 6 : x.at(each.x), y.at(each.y)];
      const mark = each.cross ? "cross" : series.mark;
      if (mark) group.append(node("svg:path", {class: `mark ${each.cross ? "cross" : series.hollow ? "hollow" : ""}`, d: markPath(mark, px, py, this.radius)}));
      this.spots.push({px, py, each, series, group});
    }
    return group;
  }

  point(event) {
    const box = this.svg.getBoundingClientRect(), scale = this.width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null, nearest = 34 ** 2;
    this.spots.forEach((spot, index) => {
      const away = spot.series.rule ? (py - spot.py) ** 2 + 300 : (px - spot.px) ** 2 + (py - spot.py) ** 2;
      if (away < nearest) [best, nearest] = [index, away];
    });
    this.show(best, px);
  }

  key(event) {
    const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 0, ArrowUp: 0, Home: 0, End: 0};
    if (event.key === "Escape") return this.unpin();
    if ((event.key === "Enter" || event.key === " ") && this.active !== null) { event.preventDefault(); return this.pin(!this.isPinned); }
    if (!(event.key in moves) || !this.spots.length) return;
    event.preventDefault();
    this.pin(false);
    const last = this.spots.length - 1, now = this.active;
    if (event.key === "Home" || now === null) return this.show(0);
    if (event.key === "End") return this.show(last);
    if (moves[event.key]) return this.show(Math.max(0, Math.min(last, now + moves[event.key])));
    const here = this.spots[now], names = [...new Set(this.spots.map((spot) => spot.series))];
    const next = names[(names.indexOf(here.series) + (event.key === "ArrowDown" ? 1 : names.length - 1)) % names.length];
    const there = this.spots.map((spot, index) => [spot, index]).filter(([spot]) => spot.series === next);
    there.sort(([a], [b]) => Math.abs(a.px - here.px) - Math.abs(b.px - here.px));
    return this.show(there[0][1]);
  }

  show(index, px) {
    if (index === this.active && !(index !== null && this.spots[index].series.rule)) return;
    this.active = index;
    const spot = index === null ? null : this.spots[index];
    for (const each of this.spots) each.group.classList.toggle("dim", spot !== null && each.group !== spot.group && !each.series.rule);
    this.cursor?.setAttribute("visibility", spot && !spot.series.rule ? "visible" : "hidden");
    this.tip.hidden = spot === null;
    if (!spot) return;
    this.cursor.setAttribute("cx", spot.px);
    this.cursor.setAttribute("cy", spot.py);
    this.tip.replaceChildren(...spot.each.tip());
    const scale = this.svg.getBoundingClientRect().width / this.width;
    const [x, y] = [(spot.series.rule && px !== undefined ? px : spot.px) * scale, spot.py * scale];
    const [wide, tall] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = x + 16 + wide <= this.host.clientWidth ? x + 16 : x - wide - 16;
    this.tip.style.left = `${Math.max(0, Math.min(left, this.host.clientWidth - wide))}px`;
    this.tip.style.top = `${left < 0 ? y + 16 : Math.max(0, y - tall / 2)}px`;
  }

  pin(isPinned) {
    this.isPinned = isPinned;
    this.tip.classList.toggle("pinned", isPinned);
  }

  unpin() {
    this.pin(false);
    this.show(null);
  }
}
