"use strict";
// What is drawn from the page's data, and the menus. All texts are set as text, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const COUNTS = "counts", LINES_AT_FIRST = 12, DENSE_AT_FIRST = 3, RUNS_ON_A_PAGE = 100, MOST_PRINTED = 2000, MOST_RUNS_IN_A_TIP = 10;
const DASHES = [null, "7 4", "2 4", "9 4 2 4"];
const ORDER = [2, 6, 4, 7, 1, 3, 5, 0]; // colours of levels
const hidden = new Set(), charts = [];

const percent = (fraction) => `${Number((100 * fraction).toPrecision(3))}%`;
const plain = (value) => Number(value.toPrecision(4)).toString();
const isFraction = (name) => /accuracy(@|$)/.test(name) || name === DATA.value.name && DATA.value.fraction;
const formatOf = (name) => isFraction(name) ? (value) => (100 * value).toFixed(2) + "%" : plain;
const tickOf = (name) => isFraction(name) ? percent : plain;
const words = (name) => name.replaceAll("_", " ").replace("@", " at ");
const pruned = DATA.lines.map((_, index) => index).filter((index) => !DATA.lines[index].dense);
const many = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

DATA.lines.forEach((line, index) => {
  line.kind = line.dense ? "d" : line.color;
  line.dash = line.dense ? DASHES[1 + (index % 3)] : line.dash || null;
});

// The first lines of each kind are drawn; those that are not are hidden until they are chosen.
function hideMost() {
  let dense = 0;
  hidden.clear();
  DATA.lines.forEach((line, index) => (line.dense ? dense++ >= DENSE_AT_FIRST : pruned.indexOf(index) >= LINES_AT_FIRST) && hidden.add(index));
}
hideMost();
DATA.points.forEach((point, index) => Object.assign(point, {index, cells: DATA.lines[point.line]}));

const sorted = (points) => [...points].sort((a, b) => b.level - a.level);
const levels = [...new Set(DATA.points.filter((point) => !point.cells.dense).map((point) => point.level))].sort((a, b) => b - a);

function levelName(level) {
  return `${percent(level)} of weights`;
}

function tipOf(point, title, value, rest) {
  const rows = point.runs.slice(0, MOST_RUNS_IN_A_TIP).map((run) => {
    const [address, , , replicate, , measured] = DATA.runs[run];
    return node("tr", {}, node("td", {}, address), node("td", {}, `replicate ${replicate}`), node("td", {}, measured === null ? "" : formatOf(DATA.value.name)(measured)));
  });
  const more = point.runs.length - rows.length;
  const parts = [node("b", {}, title), node("span", {}, value), ...rest.map((text) => node("i", {}, text)), node("table", {}, node("tbody", {}, ...rows))];
  if (more > 0) parts.push(node("i", {}, `and ${many(more, "more run")}, in the list of runs`));
  return parts;
}

function meanText(point) {
  const format = formatOf(DATA.value.name);
  if (point.low === null) return `${format(point.mean)} (n = ${point.runs.length})`;
  const spread = point.half === null ? `[${format(point.low)}, ${format(point.high)}]` : `± ${format(point.half)}`;
  return `${format(point.mean)} ${spread} (n = ${point.runs.length})`;
}

function resultPoints(point) {
  const title = `${point.cells.label}${point.cells.dense ? "" : `, ${percent(point.density ?? point.level)} remaining`}`;
  const notes = point.leftOut ? [`${many(point.leftOut, "run")} of it left out`] : [];
  if (point.mixed) {
    return point.runs.map((run) => ({x: point.density, y: DATA.runs[run][5], cross: true, tip: () => tipOf({...point, runs: [run]}, title, formatOf(DATA.value.name)(DATA.runs[run][5]), ["One of several experiments that are not averaged", ...notes])}));
  }
  if (point.mean === null) return [];
  return [{x: point.density, y: point.mean, low: point.low, high: point.high, tip: () => tipOf(point, title, meanText(point), notes)}];
}

const shown = (points) => points.filter((point) => !hidden.has(point.line));
const look = (line) => ({kind: line.kind, mark: line.mark, dash: line.dash});

function curves() {
  const series = DATA.lines.map((line, index) => ({line, index})).filter(({index}) => !hidden.has(index)).map(({line, index}) => ({
    ...look(line), rule: line.dense,
    points: sorted(DATA.points.filter((point) => point.line === index)).flatMap(resultPoints),
  }));
  const x = {kind: "log", reverse: true, label: "weights remaining", text: percent};
  const xs = series.filter((each) => !each.rule).flatMap((each) => each.points.map((point) => point.x));
  // The dense networks are a level, not a point: their line must not stretch the axis.
  for (const each of series) if (each.rule) for (const point of each.points) point.x = xs.length ? Math.max(...xs) : 1;
  return {label: `${DATA.value.name} over weights remaining`, x, y: {label: words(DATA.value.name), text: tickOf(DATA.value.name)}, series};
}

function layers() {
  const [kind, which] = JSON.parse(layers.menu.value);
  const layer = (point) => DATA.layers[point.index] ? DATA.layerNames[DATA.layers[point.index][0]] : [];
  const value = (point, at, part) => DATA.layers[point.index][part][at];
  const differ = (point) => DATA.layers[point.index][2].some((each, at) => each !== DATA.layers[point.index][1][at]);
  const points = shown(DATA.points).filter((point) => DATA.layers[point.index] && !point.mixed && !point.cells.dense);
  const one = (point, name, part) => {
    const at = layer(point).indexOf(name), effective = DATA.layers[point.index][2];
    const texts = [`direct ${percent(value(point, at, 1))}`, ...(effective.length ? [`effective ${percent(value(point, at, 2))}`] : [])];
    return {y: value(point, at, part), tip: () => tipOf(point, `${point.cells.label}, ${percent(point.density)} remaining`, name, [texts.join(", ")])};
  };
  const wanted = layers.part.value;
  const parts = (some) => {
    const known = some.some((point) => DATA.layers[point.index][2].length);
    if (wanted === "effective") return known ? [2] : [];
    return wanted === "both" && some.some(differ) ? [1, 2] : [1];
  };
  const style = (point, part) => part === 1 ? look(point.cells) : {...look(point.cells), dash: "3 4", hollow: true};
  const y = {label: "weights remaining in the layer", text: percent, from: 0};
  if (kind === "level") {
    const there = points.filter((point) => point.level === which);
    const names = [...new Set(there.flatMap(layer))];
    const series = there.flatMap((point) => parts([point]).map((part) => ({
      ...style(point, part), points: layer(point).map((name) => ({x: names.indexOf(name), ...one(point, name, part)})),
    })));
    return {label: `All layers at ${levelName(which)}`, x: {kind: "names", names, label: "layer", text: (index) => names[index]}, y, series};
  }
  const series = pruned.flatMap((line) => {
    const mine = sorted(points.filter((point) => point.line === line && layer(point).includes(which)));
    return mine.length ? parts(mine).map((part) => ({
      ...style(mine[0], part), points: mine.filter((point) => DATA.layers[point.index][part].length).map((point) => ({x: point.density, ...one(point, which, part)})),
    })) : [];
  });
  return {label: `${which} over all levels`, x: {kind: "log", reverse: true, label: "weights remaining in all", text: percent}, y, series};
}

function training() {
  const [kind, which] = JSON.parse(training.menu.value), metric = training.metric.value;
  const points = DATA.points.filter((point) => metric in DATA.training[point.index] && (kind === "line" ? point.line === which : (point.cells.dense || point.level === which) && !hidden.has(point.line)));
  const format = formatOf(metric);
  const series = sorted(points).map((point, place) => {
    const [grid, mean, low, high] = DATA.training[point.index][metric];
    const title = `${point.cells.label}${point.cells.dense ? "" : `, ${percent(point.density)} remaining`}`;
    const style = kind === "line" ? {kind: ORDER[place % 8], dash: DASHES[Math.floor(place / 8) % DASHES.length], mark: null} : look(point.cells);
    const marked = mean.length <= 40 ? style.mark ?? "o" : null;
    return {...style, mark: marked, points: mean.map((y, at) => ({
      x: DATA.grids[grid][at], y, low: low.length ? low[at] : null, high: high.length ? high[at] : null,
      tip: () => tipOf(point, title, `${metric} ${format(y)} at epoch ${plain(DATA.grids[grid][at])}`, [...(low.length ? [`from ${format(low[at])} to ${format(high[at])} (n = ${point.runs.length})`] : []), `${DATA.value.name} of its runs:`]),
    }))};
  });
  const chosen = kind === "line" ? `levels of ${DATA.lines[which].label}` : `lines at ${levelName(which)}`;
  return {label: `${words(metric)}, ${chosen}`, x: {kind: "linear", label: "epoch", text: plain, pad: .01}, y: {label: words(metric), text: tickOf(metric)}, series};
}

function legend(withDense) {
  const box = node("div", {class: "legend", role: "group", "aria-label": "Lines"});
  const update = () => box.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.line)))));
  const inOrder = [...pruned, ...DATA.lines.map((_, index) => index).filter((index) => DATA.lines[index].dense)];
  inOrder.forEach((index) => {
    const line = DATA.lines[index];
    if (line.dense && !withDense) return;
    const sample = node("svg:svg", {width: 26, height: 14, class: `series k${line.kind}`, "aria-hidden": "true"}, node("svg:path", {d: "M1 7H25", "stroke-dasharray": line.dash}));
    if (line.mark) sample.append(node("svg:path", {class: "mark", d: markPath(line.mark, 13, 7, 3.9)}));
    const button = node("button", {type: "button", "data-line": index}, sample, node("span", {}, line.label));
    button.addEventListener("click", () => { hidden.has(index) ? hidden.delete(index) : hidden.add(index); redraw(); });
    box.append(button);
  });
  legend.updates.push(update);
  update();
  return box;
}
legend.updates = [];

function redraw() {
  legend.updates.forEach((update) => update());
  charts.forEach((chart) => chart.draw());
}

// Where there are many lines: which of them are drawn, by words in their labels.
function finder() {
  if (DATA.lines.length <= LINES_AT_FIRST) return [];
  const search = node("input", {type: "search", placeholder: "words in their names"});
  const buttons = [["All", () => hidden.clear()], ["None", () => DATA.lines.forEach((_, line) => hidden.add(line))], ["The first", hideMost]].map(([text, act]) => {
    const button = node("button", {type: "button"}, text);
    button.addEventListener("click", () => { search.value = ""; act(); redraw(); });
    return button;
  });
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    hideMost();
    if (wanted.length) DATA.lines.forEach((line, index) => {
      const parts = line.label.toLowerCase().split(", ");
      const has = (word) => parts.some((part) => word.includes("=") ? part === word : part.includes(word));
      wanted.every(has) ? hidden.delete(index) : hidden.add(index);
    });
    redraw();
  });
  return [node("label", {}, "Lines with", search), ...buttons];
}

function menu(text, groups, chosen) {
  const select = node("select", {});
  for (const [label, options] of groups) {
    const made = options.map(([value, name]) => node("option", {value: JSON.stringify(value), selected: JSON.stringify(value) === JSON.stringify(chosen)}, name));
    if (made.length) select.append(...(label ? [node("optgroup", {label}, ...made)] : made));
  }
  return [select, node("label", {}, text, select)];
}

function show(name, spec, ...controls) {
  const host = document.getElementById(`${name}-chart`);
  document.getElementById(`${name}-controls`).append(...controls);
  const chart = new Chart(host, spec);
  charts.push(chart);
  return chart;
}

function showLayers() {
  const having = DATA.points.filter((point) => DATA.layers[point.index] && !point.cells.dense);
  const there = levels.filter((level) => having.some((point) => point.level === level));
  const names = [...new Set(DATA.layerNames.flat())];
  const [select, label] = menu("Show", [
    ["All layers at", there.map((level) => [["level", level], levelName(level)])],
    ["One layer over all levels", names.map((name) => [["layer", name], name])],
  ], ["level", there[Math.floor(there.length / 2)]]);
  layers.menu = select;
  layers.part = node("select", {}, ...["both", "direct", "effective"].map((name) => node("option", {value: name}, name)));
  const chart = show("layers", layers, label, node("label", {}, "Density", layers.part), ...finder(), legend(false));
  for (const each of [select, layers.part]) each.addEventListener("change", () => chart.draw());
}

function showTraining() {
  const metrics = [...new Set(DATA.training.flatMap(Object.keys))].sort();
  const trained = DATA.points.filter((point) => Object.keys(DATA.training[point.index]).length);
  const there = levels.filter((level) => trained.some((point) => point.level === level));
  const lines = DATA.lines.map((_, index) => index).filter((index) => trained.some((point) => point.line === index));
  const first = DATA.value.name.split("@")[0];
  training.metric = node("select", {}, ...metrics.map((name) => node("option", {value: name, selected: name === first}, name)));
  const [select, label] = menu("Compare", [
    ["Lines at", there.map((level) => [["level", level], levelName(level)])],
    ["Levels of", lines.map((line) => [["line", line], DATA.lines[line].label])],
  ], there.length ? ["level", there[Math.floor(there.length / 2)]] : ["line", lines[0]]);
  training.menu = select;
  const chart = show("training", training, node("label", {}, "Metric", training.metric), label, ...finder(), legend(true));
  for (const each of [select, training.metric]) each.addEventListener("change", () => chart.draw());
}

function showRuns() {
  const table = document.getElementById("runs"), controls = document.getElementById("runs-controls");
  const head = ["address", "line", "remaining", "replicate", "status", DATA.value.name, "seconds", "finished", "device", "versions", "data", "location"];
  const cells = ([address, location, point, replicate, status, value, device, finished, seconds, versions, fingerprint, upstream]) => {
    const of = point === null ? null : DATA.points[point];
    return [address, of ? of.cells.label : "", of ? percent(of.level) : "", replicate, status, value === null ? "" : formatOf(DATA.value.name)(value), seconds === null ? "" : plain(seconds), finished, device, versions === null ? "" : `set ${versions + 1}`, fingerprint.slice(0, 8), (upstream && `${upstream}/`) + location].map(String);
  };
  const texts = DATA.runs.map(cells);
  const search = node("input", {type: "search", placeholder: "address, line, device, \u2026"});
  const [back, on, where] = [node("button", {type: "button"}, "Previous"), node("button", {type: "button"}, "Next"), node("span", {role: "status"})];
  const body = node("tbody", {});
  let page = 0;
  table.append(node("thead", {}, node("tr", {}, ...head.map((name) => node("th", {scope: "col"}, name)))), body);
  const render = (size) => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = texts.filter((row) => { const all = row.join(" ").toLowerCase(); return wanted.every((word) => all.includes(word)); });
    page = Math.max(0, Math.min(page, Math.ceil(found.length / size) - 1));
    const part = found.slice(page * size, (page + 1) * size);
    body.replaceChildren(...part.map((row) => node("tr", {class: row[4] === COUNTS ? null : "out"}, ...row.map((text) => node("td", {}, text)))));
    where.textContent = found.length ? `${page * size + 1} to ${page * size + part.length} of ${many(found.length, "run")}` : "No run has these words.";
    back.disabled = page === 0;
    on.disabled = (page + 1) * size >= found.length;
    back.hidden = on.hidden = found.length <= size;
  };
  search.addEventListener("input", () => { page = 0; render(RUNS_ON_A_PAGE); });
  back.addEventListener("click", () => { page--; render(RUNS_ON_A_PAGE); });
  on.addEventListener("click", () => { page++; render(RUNS_ON_A_PAGE); });
  controls.append(node("label", {}, "Find", search), back, on, where);
  window.addEventListener("beforeprint", () => render(MOST_PRINTED));
  window.addEventListener("afterprint", () => render(RUNS_ON_A_PAGE));
  render(RUNS_ON_A_PAGE);
}

// What is folded is printed in full.
function unfold() {
  const folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((each) => { each.open = true; });
  window.addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }), {once: true});
}

window.addEventListener("beforeprint", unfold);
if (document.getElementById("curves-chart")) show("curves", curves, ...finder(), legend(true));
if (document.getElementById("layers-chart")) showLayers();
if (document.getElementById("training-chart")) showTraining();
showRuns();
