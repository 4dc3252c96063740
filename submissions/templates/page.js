// The page as a whole: the overview, the list of tasks, what is chosen in it, and the keys.

const noun = isArc ? "task" : "board";
const at = (id) => document.getElementById(id);
const state = { filter: "all", sort: "file", query: "", shown: [], current: null };
const phone = window.matchMedia("(max-width: 859px)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const some = (keeps) => (task) => task.tests.some(keeps);
const has = (outcome) => some((test) => test.outcome === outcome);
const by = (valueOf) => (one, other) => valueOf(one) - valueOf(other);
const sum = (valueOf) => ({ tests }) => tests.reduce((total, test) => total + valueOf(test), 0);
const least = (valueOf) => ({ tests }) => Math.min(...tests.map(valueOf));
const isOutvoted = (test) => test.rank !== null && test.outcome !== "solved";
// By how many votes the right grid missed the second attempt.
const missing = (test) => test.ranked[isArc ? 1 : 0][2] - test.ranked.find(([place]) => place === test.rank)[2];
const votes = sum((test) => (test.ranked.length ? test.ranked[0][2] / test.candidates : 0));
// The share of the votes that the first grids of a task have.
const leading = (task) => votes(task) / task.tests.length;
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
  outvoted: ["outvoted by fewest first", by(least((test) => (isOutvoted(test) ? missing(test) : 1e9)))],
  ...(isArc && { tie: ["near ties first", by(least((test) => (isTied(test) ? Math.abs(test.margin) : 1e9)))] }),
  small: ["smallest first", by(({ tests }) => Math.max(...tests.map((test) => test.input.length)))],
};

function definitions(facts) {
  return element("dl", facts.map(([name, value]) => element("div", element("dt", name), element("dd", value))));
}

function showParts(title, parts) {
  const row = (name, cells) => element("tr", cells.map((cell) => element(name, `${cell}`)));
  return element("table", row("th", [title, "outputs", "pass@1", "pass@2"]), parts.map((part) => row(
    "td", [part.name, part.outputs, percent(part.solved_at_1 / part.outputs), percent(part.solved_at_2 / part.outputs)],
  )));
}

function showOverview() {
  document.title = `${page.title} - arcpipe report`;
  at("title").textContent = page.title;
  const tests = plural(page.tasks.flatMap((task) => task.tests).length, "test input");
  const counted = isArc ? `${plural(page.tasks.length, noun)}, ${tests}` : page.sample;
  at("subtitle").textContent = [counted, `arcpipe ${page.version}`].filter(Boolean).join(", ");
  at("notes").append(...page.notes.map((note) => element("li", note)));
  at("tiles").append(...page.tiles.map(([name, value, detail]) => element(
    "div.tile", element("span.muted", name), element("b", value), element("small", detail),
  )));
  at("facts").append(definitions(page.facts));
  at("charts").append(...page.charts.map(([title, svg]) => element(
    "div.chart", element("img", { src: `data:image/svg+xml;base64,${svg}`, alt: title }),
  )));
  const tables = Object.entries(page.parts).map(([title, parts]) => showParts(title.replace("_", " "), parts));
  const more = {
    "Scores by kind of task": tables.length && element("div.parts", tables),
    Files: page.files.length && definitions(page.files),
    "Settings of the run": page.recipe && element("pre", JSON.stringify(page.recipe, null, 2)),
  };
  for (const [title, content] of Object.entries(more)) {
    if (content) at("more").append(element("details", element("summary", title), content));
  }
}

function showToolbar() {
  for (const [name, [title, keeps]] of Object.entries(FILTERS)) {
    const count = page.tasks.filter(keeps).length;
    const about = { type: "button", "data-filter": name, click: () => choose({ filter: name }) };
    const button = element("button", about, name !== "all" && mark(name), title, element("span", `${count}`));
    if (count) at("filters").append(button);
  }
  at("sort").append(...Object.entries(SORTS).map(([name, [title]]) => element("option", { value: name }, title)));
  at("sort").onchange = () => choose({ sort: at("sort").value });
  at("search").placeholder = isArc ? "Task id  ( / )" : "Board  ( / )";
  at("search").setAttribute("aria-label", `Search by ${noun} id`);
  at("search").oninput = () => choose({ query: at("search").value });
}

// The list and the detail stay below the toolbar, which has one row or more.
function measureToolbar() {
  const height = phone.matches ? 0 : at("toolbar").offsetHeight;
  document.documentElement.style.setProperty("--toolbar", `${height}px`);
}

const thumbnails = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((one) => one.isIntersecting)) {
    thumbnails.unobserve(target);
    const [{ input, truth, attempts }] = target.task.tests;
    const thumbnail = (text, label) => gridDrawing(text, { most: 40, label, given: input });
    target.replaceChildren(thumbnail(truth ?? input, "right output"));
    if (attempts.length) target.append(thumbnail(attempts[0], "attempt"));
  }
}, { rootMargin: "300px" });

// The task in the list; what is hidden of it is not made anew.
const itemOf = (task) => (task.item ??= makeItem(task));

function makeItem(task) {
  const marks = task.tests.slice(0, 3).map((test) => mark(test.outcome, page.outcomes[test.outcome]));
  if (task.tests.some(isTied)) marks.push(mark("tie", "attempt 2 nearly tied"));
  const thumbs = element("span.thumbs");
  thumbs.task = task;
  thumbnails.observe(thumbs);
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || phone.matches) return;
    event.preventDefault();
    select(task);
  };
  return element("li", element(
    "a", { href: hashOf(task), click }, element("span.marks", marks),
    element("span", element("span.name", task.id), element("small", summaryOf(task))), thumbs,
  ));
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
  const nothing = element("li.empty", `No ${noun} is like this.`);
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
  const button = (id, text, title, click, isLast) => element(
    "button", { type: "button", id, title, "aria-label": title, click, ...(isLast && { disabled: "" }) }, text,
  );
  at("detail").replaceChildren(
    element(
      "div.head", button("back", "\u2039 All", "Back to the list (Esc)", leave),
      element("h2", element("a", { href: hashOf(task), title: `Link to this ${noun}` }, task.id)),
      task.rule && element("span.muted", isArc ? `output size: ${task.rule}` : task.rule),
      element(
        "div.buttons", element("span.muted", place < 0 ? "" : `${place + 1} of ${state.shown.length}`),
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
  const other = theme === "dark" ? "light" : "dark";
  at("theme").textContent = other === "dark" ? "Dark" : "Light";
  at("theme").onclick = () => setTheme(other);
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

dark.onchange = () => setTheme(dark.matches ? "dark" : "light");
dark.onchange();
at("digits").onclick = switchDigits;
at("keys").onclick = switchKeys;
at("keys-help").append(definitions(KEYS.map(([keys, said]) => [keys.map((key) => element("kbd", SIGNS[key] || key)), said])));
showOverview();
if (page.tasks.length) {
  at("work").hidden = false;
  showToolbar();
  new ResizeObserver(measureToolbar).observe(at("toolbar"));
  choose({});
  followLink();
  window.onhashchange = followLink;
  document.onkeydown = pressed;
  phone.onchange = () => { if (state.current) show(state.current); };
} else at("digits").hidden = true;
