// The page as a whole: the overview, the list of tasks, what is chosen in it, and the keys.

const noun = isArc ? "task" : "board";
const at = (id) => document.getElementById(id);
const state = { filter: "all", sort: "file", query: "", shown: [], current: null };
const phone = window.matchMedia("(max-width: 859px)");

const isSolved = (task) => task.tests.every((test) => test.outcome === "solved");
const isOutvoted = (test) => test.rank !== null && test.outcome !== "solved";
const leading = (task) => {
  const shares = task.tests.map((test) => (test.ranked.length ? test.ranked[0][2] / test.candidates : 0));
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
};
const wrongCells = (task) => task.tests.reduce((sum, test) => sum + (test.wrong === null ? 1000 : test.wrong), 0);
const area = (task) => Math.max(...task.tests.map((test) => test.grids[test.input].length));

const FILTERS = {
  all: ["All", () => true],
  solved: ["Solved", isSolved],
  nearly: [`Within ${page.nearly} cells`, (task) => task.tests.some((test) => test.outcome === "nearly")],
  cells: ["More cells wrong", (task) => task.tests.some((test) => test.outcome === "cells")],
  size: ["Wrong size", (task) => task.tests.some((test) => test.outcome === "size")],
  none: ["No votes", (task) => task.tests.some((test) => test.outcome === "none")],
  outvoted: ["Right but outvoted", (task) => task.tests.some(isOutvoted)],
};
const SORTS = {
  file: [isArc ? "as in the file" : "wrong ones first", () => 0],
  id: [`${noun} id`, (one, other) => one.id.localeCompare(other.id, "en", { numeric: true })],
  close: ["fewest wrong cells", (one, other) => wrongCells(one) - wrongCells(other)],
  sure: ["surest first", (one, other) => leading(other) - leading(one)],
  unsure: ["least sure first", (one, other) => leading(one) - leading(other)],
  small: ["smallest first", (one, other) => area(one) - area(other)],
};

function showOverview() {
  document.title = `${page.title} - arcpipe report`;
  at("title").textContent = page.title;
  const tests = page.tasks.reduce((sum, task) => sum + task.tests.length, 0);
  const counted = isArc ? `${plural(page.tasks.length, noun)}, ${plural(tests, "test input")}` : page.sample;
  at("subtitle").textContent = [counted, `arcpipe ${page.version}`].filter(Boolean).join(", ");
  at("notes").append(...page.notes.map((note) => element("li", {}, note)));
  at("tiles").append(...page.tiles.map(([name, value, detail]) => element(
    "div", { class: "tile" }, element("span", { class: "muted" }, name), element("b", {}, value), element("small", {}, detail),
  )));
  at("facts").append(...definitions(page.facts));
  at("charts").append(...page.charts.map(([title, svg]) => element(
    "div", { class: "chart" }, element("img", { src: `data:image/svg+xml;base64,${svg}`, alt: title }),
  )));
  if (Object.keys(page.parts).length) at("more").append(showParts());
  if (page.files.length) {
    const files = element("dl", { class: "facts" }, ...definitions(page.files));
    at("more").append(element("details", {}, element("summary", {}, "Files"), files));
  }
  if (page.recipe) {
    const text = element("pre", {}, JSON.stringify(page.recipe, null, 2));
    at("more").append(element("details", {}, element("summary", {}, "Settings of the run"), text));
  }
}

function definitions(facts) {
  return facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function showParts() {
  const tables = Object.entries(page.parts).map(([title, parts]) => {
    const head = [title.replace("_", " "), "outputs", "pass@1", "pass@2"].map((name) => element("th", { scope: "col" }, name));
    const rows = parts.map((part) => {
      const cells = [part.name, part.outputs, ...[part.solved_at_1, part.solved_at_2].map((count) => percent(count / part.outputs))];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, `${cell}`)));
    });
    return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  });
  return element("details", {}, element("summary", {}, "Scores by kind of task"), element("div", { class: "parts" }, ...tables));
}

function showToolbar() {
  for (const [name, [title, keeps]] of Object.entries(FILTERS)) {
    const count = page.tasks.filter(keeps).length;
    if (!count && name !== "all") continue;
    const symbol = name === "all" ? null : mark(name);
    const button = element("button", { type: "button", "data-filter": name }, symbol, title, element("span", {}, `${count}`));
    button.addEventListener("click", () => choose({ filter: name }));
    at("filters").append(button);
  }
  at("sort").append(...Object.entries(SORTS).map(([name, [title]]) => element("option", { value: name }, title)));
  at("sort").addEventListener("change", () => choose({ sort: at("sort").value }));
  at("search").placeholder = isArc ? "Task id  ( / )" : "Board  ( / )";
  at("search").setAttribute("aria-label", `Search by ${noun} id`);
  at("search").addEventListener("input", () => choose({ query: at("search").value }));
}

// The list and the detail stay below the toolbar, which has one row or more.
function measureToolbar() {
  const height = phone.matches ? 0 : at("toolbar").offsetHeight;
  document.documentElement.style.setProperty("--toolbar", `${height}px`);
}

const thumbnails = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    thumbnails.unobserve(entry.target);
    entry.target.replaceChildren(...thumbnailsOf(entry.target.task));
  }
}, { rootMargin: "300px" });

function thumbnailsOf(task) {
  const test = task.tests[0];
  const answer = test.attempts.length ? test.attempts[0] : null;
  const truth = test.truth === null ? test.input : test.truth;
  return [truth, answer].filter((number) => number !== null).map((number, index) => gridDrawing(
    test.grids[number], { most: 40, label: index ? "attempt" : "right output", given: test.grids[test.input] },
  ));
}

const items = new Map();

function itemOf(task) {
  if (items.has(task.id)) return items.get(task.id);
  const marks = task.tests.slice(0, 3).map((test) => mark(test.outcome, page.outcomes[test.outcome]));
  const thumbs = element("span", { class: "thumbs" });
  thumbs.task = task;
  const link = element(
    "a", { href: `#${encodeURIComponent(task.id)}` }, element("span", { class: "marks" }, ...marks),
    element("span", {}, element("span", { class: "name" }, task.id), element("small", {}, summaryOf(task))), thumbs,
  );
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || phone.matches) return;
    event.preventDefault();
    select(task);
  });
  thumbnails.observe(thumbs);
  items.set(task.id, element("li", {}, link));
  return items.get(task.id);
}

function summaryOf(task) {
  const solved = task.tests.filter((test) => test.outcome === "solved").length;
  const test = task.tests[0];
  let said = `${solved} of ${task.tests.length} solved`;
  if (task.tests.length === 1) said = test.wrong > 0 ? plural(test.wrong, "wrong cell") : page.outcomes[test.outcome];
  if (!isArc && task.rule) said = task.rule;
  const share = leading(task);
  return share ? `${said}, ${percent(share)} of votes` : said;
}

function choose(change) {
  Object.assign(state, change);
  const query = state.query.trim().toLowerCase();
  const keeps = FILTERS[state.filter][1];
  state.shown = page.tasks.filter((task) => keeps(task) && task.id.toLowerCase().includes(query));
  state.shown.sort(SORTS[state.sort][1]);
  const nothing = element("li", { class: "empty" }, `No ${noun} is like this.`);
  at("list").replaceChildren(...(state.shown.length ? state.shown.map(itemOf) : [nothing]));
  at("list").scrollTop = 0;
  at("count").textContent = state.shown.length === page.tasks.length ? plural(state.shown.length, noun)
    : `${state.shown.length} of ${plural(page.tasks.length, noun)}`;
  for (const button of at("filters").children) {
    button.setAttribute("aria-pressed", button.dataset.filter === state.filter);
  }
  if (!phone.matches && state.shown.length && !state.shown.includes(state.current)) show(state.shown[0]);
  else if (state.current) show(state.current);
}

function show(task) {
  if (state.current && items.has(state.current.id)) items.get(state.current.id).firstChild.removeAttribute("aria-current");
  state.current = task;
  const item = itemOf(task);
  item.firstChild.setAttribute("aria-current", "true");
  const place = state.shown.indexOf(task);
  const [back, previous, next] = [
    ["back", "\u2039 All", "Back to the list (Esc)"], ["previous", "\u2190", `Previous ${noun} (k)`],
    ["next", "\u2192", `Next ${noun} (j)`],
  ].map(([id, text, title]) => element("button", { type: "button", id, title, "aria-label": title }, text));
  back.addEventListener("click", leave);
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));
  [previous.disabled, next.disabled] = [place <= 0, place === state.shown.length - 1];
  const link = element("a", { href: `#${encodeURIComponent(task.id)}`, title: `Link to this ${noun}` }, task.id);
  const rule = task.rule ? element("span", { class: "muted" }, isArc ? `output size: ${task.rule}` : task.rule) : null;
  at("detail").replaceChildren(
    element("div", { class: "head" }, back, element("h2", {}, link), rule, element(
      "div", { class: "buttons" }, element("span", { class: "muted" }, place < 0 ? "" : `${place + 1} of ${state.shown.length}`),
      previous, next,
    )),
    ...(task.train.length ? showDemonstrations(task) : []),
    ...task.tests.map((test, index) => showTest(task, test, index)),
  );
}

function select(task) {
  history.replaceState(null, "", `#${encodeURIComponent(task.id)}`);
  open(task);
}

function open(task, always = false) {
  if (phone.matches) document.body.classList.add("open");
  show(task);
  const [list, item] = [at("list"), items.get(task.id)];
  if (!phone.matches) {
    if (item.offsetTop < list.scrollTop) list.scrollTop = item.offsetTop;
    const end = item.offsetTop + item.offsetHeight - list.clientHeight;
    if (end > list.scrollTop) list.scrollTop = end;
    measureToolbar();
    const { top } = at("detail").getBoundingClientRect();
    if (always || top > window.innerHeight * 0.6 || top < 0) at("detail").scrollIntoView();
  } else at("detail").scrollTop = 0;
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
  const task = page.tasks.find((one) => `#${encodeURIComponent(one.id)}` === location.hash);
  if (!task) return document.body.classList.remove("open");
  if (!state.shown.includes(task)) {
    at("search").value = "";
    choose({ filter: "all", query: "" });
  }
  return open(task, true);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function setDigits(on) {
  settings.digits = on;
  at("digits").setAttribute("aria-pressed", on);
  if (state.current) show(state.current);
}

function toggleKeys() {
  const help = at("keys-help");
  help.hidden = !help.hidden;
  at("keys").setAttribute("aria-expanded", !help.hidden);
}

const KEYS = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
  "/": () => at("search").focus(), d: () => setDigits(!settings.digits), "?": toggleKeys, Escape: leave,
};

function pressed(event) {
  if (event.metaKey || event.ctrlKey || event.altKey || !(event.key in KEYS)) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  event.preventDefault();
  KEYS[event.key]();
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
showOverview();
if (page.tasks.length) {
  at("work").hidden = false;
  showToolbar();
  measureToolbar();
  new ResizeObserver(measureToolbar).observe(at("toolbar"));
  choose({});
  followLink();
  window.addEventListener("hashchange", followLink);
  document.addEventListener("keydown", pressed);
  phone.addEventListener("change", () => { if (state.current) show(state.current); });
} else at("digits").hidden = true;
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
at("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
at("digits").addEventListener("click", () => setDigits(!settings.digits));
at("keys").addEventListener("click", toggleKeys);
