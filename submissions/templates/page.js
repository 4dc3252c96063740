// The page as a whole: the overview, the list of tasks, what is chosen in it, and the keys.

const noun = isArc ? "task" : "board";
const at = (id) => document.getElementById(id);
const state = { filter: "all", sort: "file", query: "", shown: [], current: null };
const phone = window.matchMedia("(max-width: 859px)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const has = (outcome) => (task) => task.tests.some((test) => test.outcome === outcome);
const sum = (tests, valueOf) => tests.reduce((total, test) => total + valueOf(test), 0);
const leading = ({ tests }) => sum(tests, (test) => (test.ranked.length ? test.ranked[0][2] / test.candidates : 0)) / tests.length;
const wrongCells = ({ tests }) => sum(tests, (test) => (test.wrong === null ? 1000 : test.wrong));
const isOutvoted = (test) => test.rank !== null && test.outcome !== "solved";
const narrowest = ({ tests }) => Math.min(...tests.map((test) => (isTied(test) ? Math.abs(test.margin) : 1e9)));
// By how many votes the right grid missed the second attempt.
const missing = ({ tests }) => Math.min(...tests.map((test) => (
  isOutvoted(test) ? test.ranked[isArc ? 1 : 0][2] - test.ranked.find(([place]) => place === test.rank)[2] : 1e9
)));
const area = ({ tests }) => Math.max(...tests.map((test) => test.input.length));
const hashOf = (task) => `#${encodeURIComponent(task.id)}`;

const FILTERS = {
  all: ["All", () => true],
  solved: ["Solved", (task) => task.tests.every((test) => test.outcome === "solved")],
  nearly: [`Within ${page.nearly} cells`, has("nearly")],
  cells: ["More cells wrong", has("cells")],
  size: ["Wrong size", has("size")],
  none: ["No votes", has("none")],
  outvoted: ["Right but outvoted", (task) => task.tests.some(isOutvoted)],
  tie: ["Attempt 2 nearly tied", (task) => task.tests.some(isTied)],
};
const SORTS = {
  file: [isArc ? "as in the file" : "wrong ones first", () => 0],
  id: [`${noun} id`, (one, other) => one.id.localeCompare(other.id, "en", { numeric: true })],
  close: ["fewest wrong cells", (one, other) => wrongCells(one) - wrongCells(other)],
  sure: ["surest first", (one, other) => leading(other) - leading(one)],
  unsure: ["least sure first", (one, other) => leading(one) - leading(other)],
  outvoted: ["outvoted by fewest first", (one, other) => missing(one) - missing(other)],
  ...(isArc ? { tie: ["near ties first", (one, other) => narrowest(one) - narrowest(other)] } : {}),
  small: ["smallest first", (one, other) => area(one) - area(other)],
};

function definitions(facts) {
  return facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function details(summary, content) {
  at("more").append(element("details", {}, element("summary", {}, summary), content));
}

function showOverview() {
  document.title = `${page.title} - arcpipe report`;
  at("title").textContent = page.title;
  const tests = plural(sum(page.tasks, (task) => task.tests.length), "test input");
  const counted = isArc ? `${plural(page.tasks.length, noun)}, ${tests}` : page.sample;
  at("subtitle").textContent = [counted, `arcpipe ${page.version}`].filter(Boolean).join(", ");
  at("notes").append(...page.notes.map((note) => element("li", {}, note)));
  at("tiles").append(...page.tiles.map(([name, value, detail]) => element(
    "div", { class: "tile" }, element("span", { class: "muted" }, name), element("b", {}, value), element("small", {}, detail),
  )));
  at("facts").append(...definitions(page.facts));
  at("charts").append(...page.charts.map(([title, svg]) => element(
    "div", { class: "chart" }, element("img", { src: `data:image/svg+xml;base64,${svg}`, alt: title }),
  )));
  const tables = Object.entries(page.parts).map(([title, parts]) => showParts(title.replace("_", " "), parts));
  if (tables.length) details("Scores by kind of task", element("div", { class: "parts" }, ...tables));
  if (page.files.length) details("Files", element("dl", { class: "facts" }, ...definitions(page.files)));
  if (page.recipe) details("Settings of the run", element("pre", {}, JSON.stringify(page.recipe, null, 2)));
}

function showParts(title, parts) {
  const row = (name, cells) => element("tr", {}, ...cells.map((cell) => element(name, {}, `${cell}`)));
  const rows = parts.map(({ name, outputs, solved_at_1, solved_at_2 }) => row(
    "td", [name, outputs, percent(solved_at_1 / outputs), percent(solved_at_2 / outputs)],
  ));
  return element("table", {}, row("th", [title, "outputs", "pass@1", "pass@2"]), ...rows);
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
  for (const { target } of entries.filter((one) => one.isIntersecting)) {
    thumbnails.unobserve(target);
    const [test] = target.task.tests;
    const right = gridDrawing(test.truth ?? test.input, { most: 40, label: "right output", given: test.input });
    const attempts = test.attempts.slice(0, 1).map((text) => gridDrawing(text, { most: 40, label: "attempt", given: test.input }));
    target.replaceChildren(right, ...attempts);
  }
}, { rootMargin: "300px" });

const items = new Map();

function itemOf(task) {
  if (items.has(task)) return items.get(task);
  const marks = task.tests.slice(0, 3).map((test) => mark(test.outcome, page.outcomes[test.outcome]));
  if (task.tests.some(isTied)) marks.push(mark("tie", "attempt 2 nearly tied"));
  const thumbs = element("span", { class: "thumbs" });
  thumbs.task = task;
  const link = element(
    "a", { href: hashOf(task) }, element("span", { class: "marks" }, ...marks),
    element("span", {}, element("span", { class: "name" }, task.id), element("small", {}, summaryOf(task))), thumbs,
  );
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || phone.matches) return;
    event.preventDefault();
    select(task);
  });
  thumbnails.observe(thumbs);
  items.set(task, element("li", {}, link));
  return items.get(task);
}

function summaryOf(task) {
  const [test] = task.tests;
  let said = `${task.tests.filter((one) => one.outcome === "solved").length} of ${task.tests.length} solved`;
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
  const all = plural(page.tasks.length, noun);
  at("count").textContent = state.shown.length === page.tasks.length ? all : `${state.shown.length} of ${all}`;
  for (const button of at("filters").children) {
    button.setAttribute("aria-pressed", button.dataset.filter === state.filter);
  }
  if (!phone.matches && state.shown.length && !state.shown.includes(state.current)) show(state.shown[0]);
  else if (state.current) show(state.current);
}

function show(task) {
  if (state.current) itemOf(state.current).firstChild.removeAttribute("aria-current");
  state.current = task;
  itemOf(task).firstChild.setAttribute("aria-current", "true");
  const place = state.shown.indexOf(task);
  const button = (id, text, title, action, disabled) => {
    const made = element("button", { type: "button", id, title, "aria-label": title }, text);
    made.addEventListener("click", action);
    made.disabled = disabled;
    return made;
  };
  const link = element("a", { href: hashOf(task), title: `Link to this ${noun}` }, task.id);
  const rule = task.rule ? element("span", { class: "muted" }, isArc ? `output size: ${task.rule}` : task.rule) : null;
  at("detail").replaceChildren(
    element(
      "div", { class: "head" }, button("back", "\u2039 All", "Back to the list (Esc)", leave, false),
      element("h2", {}, link), rule, element(
        "div", { class: "buttons" },
        element("span", { class: "muted" }, place < 0 ? "" : `${place + 1} of ${state.shown.length}`),
        button("previous", "\u2190", `Previous ${noun} (k)`, () => move(-1), place <= 0),
        button("next", "\u2192", `Next ${noun} (j)`, () => move(1), place === state.shown.length - 1),
      ),
    ),
    ...showDemonstrations(task), ...task.tests.map((test, index) => showTest(task, test, index)),
  );
}

function select(task) {
  history.replaceState(null, "", hashOf(task));
  open(task);
}

function open(task, always = false) {
  if (phone.matches) document.body.classList.add("open");
  show(task);
  at("detail").scrollTop = 0;
  if (phone.matches) return;
  const [list, item] = [at("list"), itemOf(task)];
  const end = item.offsetTop + item.offsetHeight - list.clientHeight;
  list.scrollTop = Math.max(end, Math.min(list.scrollTop, item.offsetTop));
  measureToolbar();
  const { top } = at("detail").getBoundingClientRect();
  if (always || top > window.innerHeight * 0.6 || top < 0) at("detail").scrollIntoView();
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
  return open(task, true);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function switchDigits() {
  settings.digits = !settings.digits;
  at("digits").setAttribute("aria-pressed", settings.digits);
  if (state.current) show(state.current);
}

function switchKeys() {
  at("keys-help").hidden = !at("keys-help").hidden;
  at("keys").setAttribute("aria-expanded", !at("keys-help").hidden);
}

const KEYS = [
  [["j", "ArrowDown"], "next", () => move(1)],
  [["k", "ArrowUp"], "previous", () => move(-1)],
  [["/"], "search", () => at("search").focus()],
  [["Escape"], "leave the search, close", leave],
  [["d"], "digits in the cells", switchDigits],
  [["?"], "these keys", switchKeys],
];
const SIGNS = { ArrowDown: "\u2193", ArrowUp: "\u2191", Escape: "Esc" };

function showKeys() {
  at("keys-help").append(...KEYS.map(([keys, said]) => element(
    "div", {}, element("dt", {}, ...keys.map((key) => element("kbd", {}, SIGNS[key] || key))), element("dd", {}, said),
  )));
}

function pressed(event) {
  const found = KEYS.find(([keys]) => keys.includes(event.key));
  if (!found || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.target.closest("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  event.preventDefault();
  found[2]();
}

setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
at("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
at("digits").addEventListener("click", switchDigits);
at("keys").addEventListener("click", switchKeys);
showOverview();
showKeys();
if (page.tasks.length) {
  at("work").hidden = false;
  showToolbar();
  new ResizeObserver(measureToolbar).observe(at("toolbar"));
  choose({});
  followLink();
  window.addEventListener("hashchange", followLink);
  document.addEventListener("keydown", pressed);
  phone.addEventListener("change", () => { if (state.current) show(state.current); });
} else at("digits").hidden = true;
