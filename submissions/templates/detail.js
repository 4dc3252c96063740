// One task: its demonstrations, and of each test what was answered and why it is right or wrong.

const isArc = page.family === "arc";

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

function percent(share) {
  return share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`;
}

function figure(text, caption, options) {
  const label = options.label || caption;
  return element("figure", {}, gridDrawing(text, { ...options, label }), element("figcaption", {}, caption));
}

// How long the longest side of a grid may be, so that a few stand beside each other.
function roomFor(count) {
  const width = document.getElementById("detail").clientWidth - 48;
  return Math.max(120, Math.min(340, Math.floor(width / Math.min(count, width < 420 ? 2 : count)) - 28));
}

function showDemonstrations(task) {
  const most = Math.min(220, roomFor(4));
  const pairs = task.train.map(([input, output], index) => element(
    "div", { class: "pair" },
    figure(input, sizeOf(input), { most, label: `demonstration ${index + 1}, input` }),
    element("span", { class: "arrow", "aria-hidden": "true" }, "\u2192"),
    figure(output, sizeOf(output), { most, label: `demonstration ${index + 1}, output` }),
  ));
  return [element("h3", {}, "Demonstrations"), element("div", { class: "row" }, ...pairs)];
}

// Why a test is solved or not, in a sentence or two.
function explanation(test) {
  const votes = (entry) => `${entry[2].toLocaleString("en")} of ${plural(test.candidates, "candidate")}`;
  const right = test.ranked.find(([place]) => place === test.rank);
  const leader = test.ranked[0];
  if (test.outcome === "none") {
    if (!test.candidates) return "No candidate at all: this input was not asked, or nothing finished in time.";
    return `None of its ${plural(test.candidates, "candidate")} held a grid that could be cropped.`;
  }
  if (test.outcome === "unknown") return leader ? `The first grid has ${votes(leader)}.` : "";
  const parts = [];
  if (test.outcome === "solved") {
    const by = test.attempts.indexOf(test.truth) + 1;
    parts.push(isArc ? `Attempt ${by} is right.` : "The answer is right.");
    if (right) parts.push(`The right grid has ${votes(right)}.`);
    return parts.join(" ");
  }
  if (test.outcome === "size") {
    const sizes = test.attempts.map((number) => sizeOf(test.grids[number])).join(" and ");
    parts.push(`The size is wrong: ${sizes} where ${sizeOf(test.grids[test.truth])} is right.`);
  } else {
    parts.push(`${isArc ? "The closer attempt" : "The answer"} has ${plural(test.wrong, "wrong cell")}.`);
  }
  if (right) parts.push(`The right grid was found but outvoted: it is number ${right[0] + 1}, with ${votes(right)}.`);
  else if (test.distinct === 1) parts.push("No candidate held another grid.");
  else if (test.candidates) {
    parts.push(`The right grid is not among the ${plural(test.distinct, "distinct candidate")}.`);
  }
  return parts.join(" ");
}

function attemptCaption(test, text, name) {
  if (test.truth === null) return element("span", {}, element("b", {}, name), `, ${sizeOf(text)}`);
  const truth = test.grids[test.truth];
  const wrong = differences(text, truth);
  let [outcome, said] = ["size", `wrong size, ${sizeOf(text)}`];
  if (wrong && !wrong.length) [outcome, said] = ["solved", "right"];
  else if (wrong) [outcome, said] = [wrong.length <= page.nearly ? "nearly" : "cells", plural(wrong.length, "wrong cell")];
  return element("span", {}, mark(outcome), element("b", {}, name), `: ${said}`);
}

function showGrids(test) {
  const most = roomFor(2 + test.attempts.length);
  const [input, truth] = [test.grids[test.input], test.truth === null ? null : test.grids[test.truth]];
  const shown = [figure(input, `input, ${sizeOf(input)}`, { most, given: input })];
  if (truth !== null) shown.push(figure(truth, `right output, ${sizeOf(truth)}`, { most, given: input }));
  test.attempts.forEach((number, index) => {
    const text = test.grids[number];
    const name = isArc ? `attempt ${index + 1}` : "answer";
    const wrong = truth === null ? null : differences(text, truth);
    shown.push(figure(text, attemptCaption(test, text, name), { most, wrong, given: input, label: name }));
  });
  return element("div", { class: "row" }, ...shown);
}

function showVotes(test) {
  if (!test.ranked.length) return [];
  const rows = test.ranked.map(([place, number, count, halt]) => {
    const text = test.grids[number];
    const isRight = place === test.rank;
    const attempt = test.attempts.indexOf(number) + 1;
    const share = count / test.candidates;
    const said = element(
      "span", { class: "said" }, `${count.toLocaleString("en")} `,
      element("span", { class: "muted" }, `(${percent(share)}), halt ${halt.toFixed(2)}`),
      attempt ? element("span", { class: "tag" }, isArc ? `attempt ${attempt}` : "answer") : null,
      isRight ? element("span", { class: "tag" }, mark("solved"), "right") : null,
    );
    const wrong = test.truth === null ? null : differences(text, test.grids[test.truth]);
    const thumb = gridDrawing(text, { most: 64, label: `candidate ${place + 1}`, wrong, given: test.grids[test.input] });
    return element(
      "li", {}, element("span", { class: "place" }, `${place + 1}`), element("span", { class: "thumb" }, thumb),
      element("span", { class: `bar${isRight ? " right" : ""}` }, element("i", { style: `width: ${100 * share}%` })), said,
    );
  });
  const counted = test.ranked.reduce((sum, [, , count]) => sum + count, 0);
  const rest = [];
  if (test.distinct > test.ranked.length) {
    const others = test.candidates - test.gridless - counted;
    rest.push(`${plural(test.distinct - test.ranked.length, "more distinct grid")} with ${plural(others, "vote")}`);
  }
  if (test.gridless) rest.push(`${plural(test.gridless, "candidate")} without a grid`);
  return [
    element("h3", {}, `Votes of ${plural(test.candidates, "candidate")}`),
    element("ol", { class: "votes" }, ...rows),
    rest.length ? element("p", { class: "muted" }, `And ${rest.join(", ")}.`) : null,
  ];
}

function showSteps(test) {
  if (!test.moves.length) return [];
  let before = null;
  const frames = test.moves.map(([step, number, halt, agreeing, total]) => {
    const lines = element(
      "span", {}, element("b", {}, `step ${step}`), element("br"), `halt ${halt.toFixed(2)}`, element("br"),
      `${agreeing} of ${total} agree`,
    );
    if (number === null) return element("figure", {}, element("div", { class: "empty" }, "no grid"), element("figcaption", {}, lines));
    const text = test.grids[number];
    const changed = before === null ? null : differences(text, before);
    before = text;
    const isRight = number === test.truth;
    if (isRight) lines.prepend(mark("solved", "right"));
    return figure(text, lines, { most: 160, changed, given: test.grids[test.input], label: `after step ${step}` });
  });
  const said = isArc ? "the input as it is, without augmentation" : "the board as it is";
  return [
    element("h3", {}, `The answer step by step: ${said}; a corner marks a cell that changed`),
    element("div", { class: "steps" }, ...frames),
  ];
}

function showTest(task, test, index) {
  const name = isArc ? `Test ${task.tests.length > 1 ? `${index + 1} of ${task.tests.length}` : ""}` : "Board";
  return element(
    "section", { class: "test" },
    element("header", {}, mark(test.outcome), element("h2", {}, `${name.trim()}: ${page.outcomes[test.outcome]}`)),
    element("p", { class: "why" }, explanation(test)),
    showGrids(test), ...showVotes(test), ...showSteps(test),
  );
}
