"use strict"; // Here a grid is a text: the digits of its rows, "/" between them.

const page = JSON.parse(document.getElementById("data").textContent);
const [isArc, isSudoku] = [page.family === "arc", page.family === "sudoku"];
const noun = isArc ? "task" : "board";
const at = (id) => document.getElementById(id);
const root = document.documentElement;
const state = { filter: "all", sort: "file", query: "", shown: [], current: null, digits: false };
const phone = window.matchMedia("(max-width: 859px)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Markup: what a template holds is text, unless it is markup itself or a list; false and null are nothing.
class Markup { constructor(text) { this.text = text; } }

function markupOf(value) {
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(markupOf).join("");
  return value === false || value === null ? "" : `${value}`.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt()};`);
}

const html = (parts, ...values) => new Markup(String.raw({ raw: parts }, ...values.map(markupOf)));
const put = (target, markup) => { target.innerHTML = markupOf(markup); };

const number = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const percent = (share) => (share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`);

// A shape of its own for each outcome, so that none needs its color to be told.
const SHAPES = {
  solved: "M4 10.5 8.5 15 16.5 5",
  nearly: "M3 8c3-4 5 2 7 0s4-3 7-1M3 14c3-4 5 2 7 0s4-3 7-1",
  cells: "M5 5 15 15M15 5 5 15",
  size: "M3 3H12V12H3ZM8 17H17V8",
  none: "M10 3a7 7 0 1 0 .01 0M5 15 15 5",
  unknown: "M6 7.5a4 4 0 1 1 5.5 3.7c-1 .4-1.5 1-1.5 2.3M10 16.5v.6",
  tie: "M3 7H17M3 13H17",
  outvoted: "M5 17V11M10 17V3M15 17V8M3 17H17",
};

function mark(outcome, label = "") {
  const about = label ? html`role="img" aria-label="${label}"` : html`aria-hidden="true"`;
  return html`<svg class="mark ${outcome}" viewBox="0 0 20 20" ${about}><path d="${SHAPES[outcome]}"/></svg>`;
}

const rowsOf = (text) => text.split("/").map((row) => Array.from(row, Number));
const cellsOf = (text) => rowsOf(text).flatMap((row, y) => row.map((value, x) => [y, x, value]));
const sizeOf = (text) => `${text.split("/").length} x ${text.split("/")[0].length}`;

// The cells of a grid that are not the same in another; null if their sizes differ or there is no other.
function differences(text, other) {
  if (other === null || sizeOf(text) !== sizeOf(other)) return null;
  const others = rowsOf(other);
  return cellsOf(text).filter(([y, x, value]) => value !== others[y][x]);
}

// Whether a text on each color is to be dark.
const lights = page.palette.map((color) => {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  return 0.3 * red + 0.6 * green + 0.1 * blue > 120;
});

// Paths, a cell being 1 wide: the same shape in each of some cells, and lines across a grid.
const inCells = (cells, shape) => cells.map(([y, x]) => `M${x} ${y}${shape}`).join("");
const linesAcross = (height, width, [tall, wide]) => [
  ...Array.from({ length: width / wide + 1 }, (_, number) => `M${number * wide} 0V${height}`),
  ...Array.from({ length: height / tall + 1 }, (_, number) => `M0 ${number * tall}H${width}`),
].join("");

// A grid. most: its longest side in pixels; wrong, changed: cells to mark; given: the grid of a Sudoku's givens.
function grid(text, { most, label, given, wrong = null, changed = null }) {
  const [height, width] = sizeOf(text).split(" x ").map(Number);
  const cell = Math.min(26, most / Math.max(height, width));
  const cells = cellsOf(text);
  const withText = isSudoku || (state.digits && cell >= 9);
  const path = (name, d, style = "") => d && html`<path class="${name}" d="${d}" style="${style}"/>`;
  const ofValue = (value) => cells.filter((one) => one[2] === value);
  const fills = page.palette.map((color, value) => path("fill", inCells(ofValue(value), "h1v1h-1z"), `fill: ${color}`));
  const givens = isSudoku && rowsOf(given);
  const texts = cells.filter(([, , value]) => withText && (value || !isSudoku)).map(([y, x, value]) => {
    const look = isSudoku ? (givens[y][x] === value ? "given" : "filled") : (lights[value] ? "dark" : "light");
    return html`<text class="${look}" x="${x + 0.5}" y="${y + 0.74}">${page.symbols[value]}</text>`;
  });
  // A frame in place of a cross where a digit is to be read.
  const crosses = inCells(wrong || [], withText ? "m.1.1h.8v.8h-.8z" : "m.25.25l.5.5m0-.5l-.5.5");
  const stroke = (least, pixels) => `stroke-width: ${Math.max(least, pixels / cell)}`;
  return html`<svg class="grid" role="img" aria-label="${label}, ${sizeOf(text)}" width="${width * cell}"
    height="${height * cell}" viewBox="-.02 -.02 ${width + 0.04} ${height + 0.04}">${!isSudoku && fills}${texts}
    ${cell >= 6 && path("line", linesAcross(height, width, [1, 1]))}
    ${isSudoku && path("box", linesAcross(height, width, page.box))}
    ${!isSudoku && path("wrong under", crosses, stroke(0.26, 2.6))}
    ${path(isSudoku ? "wrong sudoku" : "wrong", crosses, stroke(0.12, 1.2))}
    ${path("changed", inCells(changed || [], "h.45l-.45.45z"))}</svg>`;
}

const figure = (text, caption, look) => html`
  <figure>${grid(text, { label: caption, ...look })}<figcaption>${caption}</figcaption></figure>`;

// How long the longest side of a grid may be, so that a few stand beside each other.
function roomFor(count) {
  const width = at("detail").clientWidth - 48;
  return Math.max(120, Math.min(340, Math.floor(width / Math.min(count, width < 420 ? 2 : count)) - 28));
}

const rightOf = (test) => test.ranked.find(([, text]) => text === test.truth);
const isOutvoted = (test) => test.outcome !== "solved" && Boolean(rightOf(test));
// By how many votes the second grid, an attempt, is before the third; fewer than none if not by the count.
const marginOf = ({ ranked }) => (isArc && ranked.length > 2 ? ranked[1][2] - ranked[2][2] : Infinity);
const isTied = (test) => Math.abs(marginOf(test)) <= page.tie;
const votesFor = ({ ranked }, place) => plural(ranked[place][2], "vote");

function demonstrations(task) {
  const most = Math.min(220, roomFor(4));
  const one = (text, label) => figure(text, sizeOf(text), { most, label });
  return task.train.length > 0 && html`<h3>Demonstrations</h3><div class="row">${task.train.map(
    ([input, output], index) => html`<div class="pair">${one(input, `demonstration ${index + 1}, input`)}
      <span class="muted" aria-hidden="true">\u2192</span>${one(output, `demonstration ${index + 1}, output`)}</div>`,
  )}</div>`;
}

// Why a test is solved or not, in a sentence or two.
function explanation(test) {
  const votes = ([, , count]) => `${number(count)} of ${plural(test.candidates, "candidate")}`;
  const [right, leader] = [rightOf(test), test.ranked[0]];
  if (test.outcome === "none") {
    return test.candidates ? `None of its ${plural(test.candidates, "candidate")} held a grid that could be cropped.`
      : "No candidate at all: this input was not asked, or nothing finished in time.";
  }
  if (test.outcome === "unknown") return leader ? `The first grid has ${votes(leader)}.` : "";
  if (test.outcome === "solved") {
    const said = isArc ? `Attempt ${test.attempts.indexOf(test.truth) + 1} is right.` : "The answer is right.";
    return right ? `${said} The right grid has ${votes(right)}.` : said;
  }
  const sizes = test.attempts.map(sizeOf).join(" and ");
  const said = test.outcome === "size" ? `The size is wrong: ${sizes} where ${sizeOf(test.truth)} is right.`
    : `${isArc ? "The closer attempt" : "The answer"} has ${plural(test.wrong, "wrong cell")}.`;
  if (right) return `${said} The right grid was found but outvoted: it is number ${right[0] + 1}, with ${votes(right)}.`;
  if (test.distinct === 1) return `${said} No candidate held another grid.`;
  return test.candidates ? `${said} The right grid is not among the ${plural(test.distinct, "distinct candidate")}.` : said;
}

function attempt(test, text, index, most) {
  const label = isArc ? `attempt ${index + 1}` : "answer";
  const wrong = differences(text, test.truth);
  const look = { most, wrong, given: test.input, label };
  if (test.truth === null) return figure(text, html`<b>${label}</b>, ${sizeOf(text)}`, look);
  if (wrong === null) return figure(text, html`${mark("size")}<b>${label}</b>: wrong size, ${sizeOf(text)}`, look);
  const kind = wrong.length ? (wrong.length <= page.nearly ? "nearly" : "cells") : "solved";
  const said = wrong.length ? plural(wrong.length, "wrong cell") : "right";
  return figure(text, html`${mark(kind)}<b>${label}</b>: ${said}`, look);
}

function votes(test) {
  const rows = test.ranked.map(([place, text, count, halt]) => {
    const isRight = text === test.truth;
    const attempt = test.attempts.indexOf(text) + 1;
    const share = count / test.candidates;
    const look = { most: 64, label: `candidate ${place + 1}`, wrong: differences(text, test.truth), given: test.input };
    return html`<li><span class="place">${place + 1}</span><span class="thumb">${grid(text, look)}</span>
      <span class="bar${isRight && " right"}"><i style="width: ${100 * share}%"></i></span>
      <span class="said">${number(count)} <span class="muted">(${percent(share)}), halt ${halt.toFixed(2)}</span>${
        attempt > 0 && html`<span class="tag">${isArc ? `attempt ${attempt}` : "answer"}</span>`}${
        isRight && html`<span class="tag">${mark("solved")}right</span>`}</span></li>`;
  });
  const more = test.distinct - test.ranked.length;
  const others = test.ranked.reduce((left, [, , count]) => left - count, test.candidates - test.gridless);
  const rest = [
    more && `${plural(more, "more distinct grid")} with ${plural(others, "vote")}`,
    test.gridless && `${plural(test.gridless, "candidate")} without a grid`,
  ].filter(Boolean);
  return html`<h3>Votes of ${plural(test.candidates, "candidate")}</h3><ol class="votes">${rows}</ol>${
    rest.length > 0 && html`<p class="muted">And ${rest.join(", ")}.</p>`}`;
}

function steps(test) {
  let before = null;
  const frames = test.moves.map(([step, text, halt, agreeing, total]) => {
    const look = { most: 160, changed: text && differences(text, before), given: test.input, label: `after step ${step}` };
    before = text ?? before;
    return html`<figure>${text ? grid(text, look) : html`<div class="empty">no grid</div>`}<figcaption>${
      text && text === test.truth && mark("solved", "right")}<b>step ${step}</b><br>
      halt ${halt.toFixed(2)}<br>${agreeing} of ${total} agree</figcaption></figure>`;
  });
  return html`<h3>The answer step by step: ${isArc ? "the input as it is, without augmentation" : "the board as it is"};
    a corner marks a cell that changed</h3><div class="steps">${frames}</div>`;
}

function testOf(task, test, index) {
  const name = isArc ? `Test${task.tests.length > 1 ? ` ${index + 1} of ${task.tests.length}` : ""}` : "Board";
  const look = { most: roomFor(2 + test.attempts.length), given: test.input };
  return html`<section class="test">
    <header>${mark(test.outcome)}<h2>${name}: ${page.outcomes[test.outcome]}</h2></header>
    <p class="why">${explanation(test)}</p>${isTied(test) && html`<p class="why">
      ${mark("tie")}Attempt 2 was a near tie: ${votesFor(test, 1)} for it, ${votesFor(test, 2)} for the next grid.</p>`}
    <div class="row">${figure(test.input, `input, ${sizeOf(test.input)}`, look)}
      ${test.truth !== null && figure(test.truth, `right output, ${sizeOf(test.truth)}`, look)}
      ${test.attempts.map((text, place) => attempt(test, text, place, look.most))}</div>
    ${test.ranked.length > 0 && votes(test)}${test.moves.length > 0 && steps(test)}</section>`;
}

const some = (keeps) => (task) => task.tests.some(keeps);
const has = (outcome) => some((test) => test.outcome === outcome);
const by = (valueOf) => (one, other) => valueOf(one) - valueOf(other);
const sum = (valueOf) => ({ tests }) => tests.reduce((total, test) => total + valueOf(test), 0);
const least = (valueOf) => ({ tests }) => Math.min(...tests.map(valueOf));
// By how many votes the right grid missed the second attempt.
const missing = (test) => (isOutvoted(test) ? test.ranked[isArc ? 1 : 0][2] - rightOf(test)[2] : 1e9);
// The share of the votes that the first grids of a task have.
const leading = (task) => sum(({ ranked, candidates }) => (ranked.length ? ranked[0][2] / candidates : 0))(task)
  / task.tests.length;
const hashOf = (task) => `#${encodeURIComponent(task.id)}`;

const FILTERS = {
  all: ["All", () => true],
  solved: ["Solved", (task) => task.tests.every((test) => test.outcome === "solved")],
  nearly: [`Within ${page.nearly} cells`, has("nearly")],
  cells: ["More cells wrong", has("cells")],
  size: ["Wrong size", has("size")],
  none: ["No votes", has("none")],
  outvoted: ["Right but outvoted", some(isOutvoted)],
  tie: ["Attempt 2 nearly tied", some(isTied)],
};
const SORTS = {
  file: [isArc ? "as in the file" : "wrong ones first", () => 0],
  id: [`${noun} id`, (one, other) => one.id.localeCompare(other.id, "en", { numeric: true })],
  close: ["fewest wrong cells", by(sum((test) => test.wrong ?? 1000))],
  sure: ["surest first", by((task) => -leading(task))],
  unsure: ["least sure first", by(leading)],
  outvoted: ["outvoted by fewest first", by(least(missing))],
  ...(isArc && { tie: ["near ties first", by(least((test) => (isTied(test) ? Math.abs(marginOf(test)) : 1e9)))] }),
  small: ["smallest first", by(({ tests }) => Math.max(...tests.map((test) => test.input.length)))],
};

const definitions = (facts) => html`<dl>${facts.map(([name, value]) => html`
  <div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

function showOverview() {
  document.title = `${page.title} - arcpipe report`;
  put(at("title"), page.title);
  const tests = plural(page.tasks.flatMap((task) => task.tests).length, "test input");
  const counted = isArc ? `${plural(page.tasks.length, noun)}, ${tests}` : page.sample;
  put(at("subtitle"), [counted, `arcpipe ${page.version}`].filter(Boolean).join(", "));
  const row = ({ name, outputs, solved_at_1: first, solved_at_2: both }) => html`<tr>
    <td>${name}</td><td>${outputs}</td><td>${percent(first / outputs)}</td><td>${percent(both / outputs)}</td></tr>`;
  const tables = Object.entries(page.parts).map(([title, parts]) => html`<table><tr>
    <th>${title.replace("_", " ")}</th><th>outputs</th><th>pass@1</th><th>pass@2</th></tr>${parts.map(row)}</table>`);
  const more = {
    "Scores by kind of task": tables.length > 0 && html`<div class="parts">${tables}</div>`,
    Files: page.files.length > 0 && definitions(page.files),
    "Settings of the run": page.recipe && html`<pre>${JSON.stringify(page.recipe, null, 2)}</pre>`,
  };
  put(at("overview"), html`<ul class="notes">${page.notes.map((note) => html`<li>${note}</li>`)}</ul>
    <div class="tiles">${page.tiles.map(([name, value, detail]) => html`
      <div class="tile"><span class="muted">${name}</span><b>${value}</b><small>${detail}</small></div>`)}</div>
    <div id="facts">${definitions(page.facts)}</div>
    <div id="charts">${page.charts.map(([title, svg]) => html`
      <div class="chart"><img src="data:image/svg+xml;base64,${svg}" alt="${title}"></div>`)}</div>
    <div class="more">${Object.entries(more).map(([title, content]) => content && html`
      <details><summary>${title}</summary>${content}</details>`)}</div>`);
}

function showToolbar() {
  put(at("filters"), Object.entries(FILTERS).map(([name, [title, keeps]]) => {
    const count = page.tasks.filter(keeps).length;
    return count > 0 && html`<button type="button" data-filter="${name}">${name !== "all" && mark(name)}${
      title}<span>${count}</span></button>`;
  }));
  put(at("sort"), Object.entries(SORTS).map(([name, [title]]) => html`<option value="${name}">${title}</option>`));
  for (const button of at("filters").children) button.onclick = () => choose({ filter: button.dataset.filter });
  at("sort").onchange = () => choose({ sort: at("sort").value });
  at("search").placeholder = isArc ? "Task id  ( / )" : "Board  ( / )";
  at("search").setAttribute("aria-label", `Search by ${noun} id`);
  at("search").oninput = () => choose({ query: at("search").value });
}

// The list and the detail stay below the toolbar, which has one row or more.
const measureToolbar = () => root.style.setProperty("--toolbar", `${phone.matches ? 0 : at("toolbar").offsetHeight}px`);

// The links of the list whose grids are drawn when they come near the window.
const thumbnails = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((one) => one.isIntersecting)) {
    thumbnails.unobserve(target);
    const [{ input, truth, attempts }] = target.task.tests;
    const drawn = [[truth ?? input, "right output"], ...attempts.slice(0, 1).map((text) => [text, "attempt"])];
    put(target.lastElementChild, drawn.map(([text, label]) => grid(text, { most: 40, label, given: input })));
  }
}, { rootMargin: "300px" });

function itemOf(task) {
  const [test] = task.tests;
  let said = `${task.tests.filter((one) => one.outcome === "solved").length} of ${task.tests.length} solved`;
  if (task.tests.length === 1) said = test.wrong > 0 ? plural(test.wrong, "wrong cell") : page.outcomes[test.outcome];
  if (!isArc && task.rule) said = task.rule;
  const share = leading(task);
  return html`<li><a href="${hashOf(task)}">
    <span class="marks">${task.tests.slice(0, 3).map((one) => mark(one.outcome, page.outcomes[one.outcome]))}${
      task.tests.some(isTied) && mark("tie", "attempt 2 nearly tied")}</span>
    <span><span class="name">${task.id}</span><small>${said}${share > 0 && `, ${percent(share)} of votes`}</small></span>
    <span class="thumbs"></span></a></li>`;
}

function choose(change) {
  Object.assign(state, change);
  const query = state.query.trim().toLowerCase();
  const keeps = FILTERS[state.filter][1];
  state.shown = page.tasks.filter((task) => keeps(task) && task.id.toLowerCase().includes(query));
  state.shown.sort(SORTS[state.sort][1]);
  put(at("list"), state.shown.length ? state.shown.map(itemOf) : html`<li class="empty">No ${noun} is like this.</li>`);
  thumbnails.disconnect();
  at("list").querySelectorAll("a").forEach((link, place) => {
    link.task = state.shown[place];
    thumbnails.observe(link);
  });
  at("list").scrollTop = 0;
  const all = plural(page.tasks.length, noun);
  put(at("count"), state.shown.length === page.tasks.length ? all : `${state.shown.length} of ${all}`);
  for (const one of at("filters").children) one.setAttribute("aria-pressed", one.dataset.filter === state.filter);
  if (!phone.matches && state.shown.length && !state.shown.includes(state.current)) show(state.shown[0]);
  else if (state.current) show(state.current);
}

function show(task) {
  state.current = task;
  const place = state.shown.indexOf(task);
  at("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
  at("list").children[place]?.firstChild.setAttribute("aria-current", "true");
  const button = (id, text, title, isLast = false) => html`
    <button type="button" id="${id}" title="${title}" aria-label="${title}" ${isLast && "disabled"}>${text}</button>`;
  put(at("detail"), html`<div class="head">${button("back", "\u2039 All", "Back to the list (Esc)")}
    <h2><a href="${hashOf(task)}" title="Link to this ${noun}">${task.id}</a></h2>
    ${task.rule && html`<span class="muted">${isArc ? `output size: ${task.rule}` : task.rule}</span>`}
    <div class="buttons"><span class="muted">${place >= 0 && `${place + 1} of ${state.shown.length}`}</span>
      ${button("previous", "\u2190", `Previous ${noun} (k)`, place <= 0)}
      ${button("next", "\u2192", `Next ${noun} (j)`, place === state.shown.length - 1)}</div></div>
    ${demonstrations(task)}${task.tests.map((test, index) => testOf(task, test, index))}`);
  at("back").onclick = leave;
  at("previous").onclick = () => move(-1);
  at("next").onclick = () => move(1);
}

function select(task, isLinked = false) {
  history.replaceState(null, "", hashOf(task));
  if (phone.matches) document.body.classList.add("open");
  show(task);
  at("detail").scrollTop = 0;
  if (phone.matches) return;
  const [list, item] = [at("list"), at("list").children[state.shown.indexOf(task)]];
  const end = item.offsetTop + item.offsetHeight - list.clientHeight;
  list.scrollTop = Math.max(end, Math.min(list.scrollTop, item.offsetTop));
  measureToolbar();
  const { top } = at("detail").getBoundingClientRect();
  if (isLinked || top > window.innerHeight * 0.6 || top < 0) at("detail").scrollIntoView();
}

function move(by) {
  const place = state.shown.indexOf(state.current);
  const next = state.shown[place < 0 ? 0 : place + by];
  if (next) select(next);
}

function leave() {
  document.body.classList.remove("open");
  history.replaceState(null, "", location.pathname + location.search);
}

function followLink() {
  const task = page.tasks.find((one) => hashOf(one) === location.hash);
  if (!task) return document.body.classList.remove("open");
  if (!state.shown.includes(task)) {
    at("search").value = "";
    choose({ filter: "all", query: "" });
  }
  return select(task, true);
}

// On a phone, and with a key that opens a tab, the link is followed.
function clicked(event) {
  const link = event.target.closest("a");
  if (!link || event.metaKey || event.ctrlKey || phone.matches) return;
  event.preventDefault();
  select(link.task);
}

function setTheme(isDark) {
  root.dataset.theme = isDark ? "dark" : "light";
  put(at("theme"), isDark ? "Light" : "Dark");
  at("theme").onclick = () => setTheme(!isDark);
}

function switchDigits() {
  state.digits = !state.digits;
  at("digits").setAttribute("aria-pressed", state.digits);
  if (state.current) show(state.current);
}

const switchKeys = () => at("keys").setAttribute("aria-expanded", !at("keys-help").toggleAttribute("hidden"));

// What is pressed, as the page writes it, what it is for and does.
const KEYS = [
  [["j", "ArrowDown"], ["j", "\u2193"], "next", () => move(1)],
  [["k", "ArrowUp"], ["k", "\u2191"], "previous", () => move(-1)],
  [["/"], ["/"], "search", () => at("search").focus()],
  [["Escape"], ["Esc"], "leave the search, close", leave],
  [["d"], ["d"], "digits in the cells", switchDigits],
  [["?"], ["?"], "these keys", switchKeys],
];

function pressed(event) {
  const key = KEYS.find(([names]) => names.includes(event.key));
  if (!key || event.metaKey || event.ctrlKey || event.altKey) return;
  if (!event.target.closest("input, select")) {
    event.preventDefault();
    key[3]();
  } else if (event.key === "Escape") event.target.blur();
}

dark.onchange = () => setTheme(dark.matches);
dark.onchange();
at("digits").onclick = switchDigits;
at("keys").onclick = switchKeys;
put(at("keys-help"), definitions(KEYS.map(([, signs, said]) => [signs.map((sign) => html`<kbd>${sign}</kbd>`), said])));
showOverview();
if (page.tasks.length) {
  at("work").hidden = false;
  showToolbar();
  new ResizeObserver(measureToolbar).observe(at("toolbar"));
  choose({});
  followLink();
  window.onhashchange = followLink;
  document.onkeydown = pressed;
  at("list").onclick = clicked;
  phone.onchange = () => { if (state.current) show(state.current); };
} else at("digits").hidden = true;
