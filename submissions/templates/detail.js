// One task: its demonstrations, and of each test what was answered and why it is right or wrong.

const number = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const percent = (share) => (share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`);

function figure(text, caption, options) {
  return element("figure", gridDrawing(text, { label: caption, ...options }), element("figcaption", caption));
}

// How long the longest side of a grid may be, so that a few stand beside each other.
function roomFor(count) {
  const width = document.getElementById("detail").clientWidth - 48;
  return Math.max(120, Math.min(340, Math.floor(width / Math.min(count, width < 420 ? 2 : count)) - 28));
}

function showDemonstrations(task) {
  if (!task.train.length) return [];
  const most = Math.min(220, roomFor(4));
  const pairs = task.train.map(([input, output], index) => element(
    "div.pair",
    figure(input, sizeOf(input), { most, label: `demonstration ${index + 1}, input` }),
    element("span.muted", { "aria-hidden": "true" }, "\u2192"),
    figure(output, sizeOf(output), { most, label: `demonstration ${index + 1}, output` }),
  ));
  return [element("h3", "Demonstrations"), element("div.row", pairs)];
}

// Whether a vote or two decided which grid became the second attempt.
const isTied = (test) => isArc && test.margin !== null && Math.abs(test.margin) <= page.tie;

function tieOf(test) {
  const [second, third] = [1, 2].map((place) => plural(test.ranked[place][2], "vote"));
  return element("p.why", mark("tie"), `Attempt 2 was a near tie: ${second} for it, ${third} for the next grid.`);
}

// Why a test is solved or not, in a sentence or two.
function explanation(test) {
  const votes = ([, , count]) => `${number(count)} of ${plural(test.candidates, "candidate")}`;
  const right = test.ranked.find(([place]) => place === test.rank);
  const [leader] = test.ranked;
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

function showAttempt(test, text, index, most) {
  const name = isArc ? `attempt ${index + 1}` : "answer";
  const wrong = differences(text, test.truth);
  let [outcome, said] = ["size", `: wrong size, ${sizeOf(text)}`];
  if (test.truth === null) [outcome, said] = [null, `, ${sizeOf(text)}`];
  else if (wrong && !wrong.length) [outcome, said] = ["solved", ": right"];
  else if (wrong) [outcome, said] = [wrong.length <= page.nearly ? "nearly" : "cells", `: ${plural(wrong.length, "wrong cell")}`];
  const caption = element("span", outcome && mark(outcome), element("b", name), said);
  return figure(text, caption, { most, wrong, given: test.input, label: name });
}

function showGrids(test) {
  const options = { most: roomFor(2 + test.attempts.length), given: test.input };
  return element(
    "div.row", figure(test.input, `input, ${sizeOf(test.input)}`, options),
    test.truth && figure(test.truth, `right output, ${sizeOf(test.truth)}`, options),
    test.attempts.map((text, index) => showAttempt(test, text, index, options.most)),
  );
}

function showVotes(test) {
  if (!test.ranked.length) return [];
  const rows = test.ranked.map(([place, text, count, halt]) => {
    const isRight = place === test.rank;
    const attempt = test.attempts.indexOf(text) + 1;
    const share = count / test.candidates;
    const look = { most: 64, label: `candidate ${place + 1}`, wrong: differences(text, test.truth), given: test.input };
    return element(
      "li", element("span.place", `${place + 1}`), element("span.thumb", gridDrawing(text, look)),
      element(`span.bar${isRight ? " right" : ""}`, element("i", { style: `width: ${100 * share}%` })),
      element(
        "span.said", `${number(count)} `, element("span.muted", `(${percent(share)}), halt ${halt.toFixed(2)}`),
        attempt && element("span.tag", isArc ? `attempt ${attempt}` : "answer"),
        isRight && element("span.tag", mark("solved"), "right"),
      ),
    );
  });
  const more = test.distinct - test.ranked.length;
  const others = test.ranked.reduce((left, [, , count]) => left - count, test.candidates - test.gridless);
  const rest = [
    more && `${plural(more, "more distinct grid")} with ${plural(others, "vote")}`,
    test.gridless && `${plural(test.gridless, "candidate")} without a grid`,
  ].filter(Boolean);
  return [
    element("h3", `Votes of ${plural(test.candidates, "candidate")}`), element("ol.votes", rows),
    rest.length && element("p.muted", `And ${rest.join(", ")}.`),
  ];
}

function showSteps(test) {
  if (!test.moves.length) return [];
  let before = null;
  const frames = test.moves.map(([step, text, halt, agreeing, total]) => {
    const lines = element(
      "span", text && text === test.truth && mark("solved", "right"), element("b", `step ${step}`), element("br"),
      `halt ${halt.toFixed(2)}`, element("br"), `${agreeing} of ${total} agree`,
    );
    if (!text) return element("figure", element("div.empty", "no grid"), element("figcaption", lines));
    const changed = differences(text, before);
    before = text;
    return figure(text, lines, { most: 160, changed, given: test.input, label: `after step ${step}` });
  });
  const said = isArc ? "the input as it is, without augmentation" : "the board as it is";
  return [
    element("h3", `The answer step by step: ${said}; a corner marks a cell that changed`), element("div.steps", frames),
  ];
}

function showTest(task, test, index) {
  const name = isArc ? `Test${task.tests.length > 1 ? ` ${index + 1} of ${task.tests.length}` : ""}` : "Board";
  return element(
    "section.test", element("header", mark(test.outcome), element("h2", `${name}: ${page.outcomes[test.outcome]}`)),
    element("p.why", explanation(test)), isTied(test) && tieOf(test), showGrids(test), showVotes(test), showSteps(test),
  );
}
