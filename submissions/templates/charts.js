// The curves of the run.

const STYLES = [["--line-1", ""], ["--line-2", "7 3"], ["--line-3", "2 3"], ["--line-4", "9 3 2 3"]];
const MARGIN = { left: 46, right: 12, top: 8, bottom: 22 };

function style(index) {
  const [name, dash] = STYLES[index % STYLES.length];
  return { style: `stroke: var(${name})`, "stroke-dasharray": dash };
}

function readable(value, scale) {
  if (scale === "share") return `${+(100 * value).toFixed(1)}%`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return size < 1e-3 ? value.toExponential(1).replace("e-", "e\u2212") : `${+value.toPrecision(3)}`;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) ticks.push(+at.toPrecision(12));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  const factors = high / low > 300 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of factors) {
      const at = factor * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) ticks.push(at);
    }
  }
  return ticks;
}

// The vertical axis of a chart: its ticks, and where a value lies, 0 at the bottom and 1 at the top.
function verticalAxis(chart) {
  const values = chart.lines.flatMap((line) => line.values).filter((value) => chart.scale !== "log" || value > 0);
  const most = Math.max(...values);
  if (chart.scale === "log" && values.length) {
    const [low, high] = [Math.min(...values) * 0.9, most * 1.1];
    const place = (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low);
    return { ticks: logTicks(low, high), place };
  }
  const high = chart.scale === "share" ? Math.max(1e-3, Math.min(1, most * 1.08)) : most * 1.08 || 1;
  return { ticks: niceTicks(0, high, 5), place: (value) => value / high };
}

function drawChart(chart, holder, legend) {
  const width = Math.max(220, holder.clientWidth);
  const height = 190;
  const [inner, tall] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  const last = Math.max(1, ...chart.lines.map((line) => line.steps.at(-1)));
  const axis = verticalAxis(chart);
  const x = (step) => MARGIN.left + (inner * step) / last;
  const y = (value) => MARGIN.top + tall * (1 - axis.place(value));
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": chart.title });
  for (const tick of axis.ticks) {
    svg.append(
      drawing("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
      drawing("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, readable(tick, chart.scale)),
    );
  }
  for (const tick of niceTicks(0, last, width < 340 ? 3 : 5)) {
    const anchor = x(tick) > width - 30 ? "end" : "middle";
    svg.append(drawing("text", { x: x(tick), y: height - 6, "text-anchor": anchor }, readable(tick, "linear")));
  }
  chart.lines.forEach((line, index) => {
    const points = line.steps.map((step, at) => `${x(step).toFixed(1)} ${y(line.values[at]).toFixed(1)}`);
    svg.append(drawing("path", { d: `M${points.join("L")}`, ...style(index) }));
    for (const [cx, cy] of points.length < 10 ? points.map((point) => point.split(" ")) : []) {
      svg.append(drawing("circle", { cx, cy, r: 3, style: `fill: var(${STYLES[index % STYLES.length][0]})` }));
    }
  });
  followPointer(svg, chart, legend, (event) => {
    const box = svg.getBoundingClientRect();
    return (((event.clientX - box.left) * width) / box.width - MARGIN.left) * (last / inner);
  }, x, height);
  holder.replaceChildren(svg);
}

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, at) => { if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = at; });
  return best;
}

function followPointer(svg, chart, legend, stepAt, x, height) {
  const cursor = drawing("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const longest = chart.lines.reduce((one, other) => (other.steps.length > one.steps.length ? other : one));
    const step = longest.steps[nearest(longest.steps, stepAt(event))];
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, x(step));
    cursor.setAttribute("visibility", "visible");
    writeLegend(chart, legend, step);
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    writeLegend(chart, legend, null);
  });
}

// The name of each curve with its value at a step, or at its end.
function writeLegend(chart, legend, step) {
  const entries = chart.lines.map((line, index) => {
    const at = step === null ? line.values.length - 1 : nearest(line.steps, step);
    const sample = drawing("svg", { viewBox: "0 0 26 10" }, drawing("path", { d: "M0 5H26", ...style(index) }));
    return element("span", {}, sample, `${line.name} `, element("b", {}, readable(line.values[at], chart.scale)));
  });
  legend.replaceChildren(...entries, element("span", {}, step === null ? "at the end" : `at step ${step.toLocaleString("en")}`));
}

function showCharts(holder) {
  for (const chart of page.charts) {
    const [place, legend] = [element("div", { class: "plot" }), element("div", { class: "legend" })];
    const averaged = chart.averaged > 1 ? ` (means of ${chart.averaged} records)` : "";
    const title = element("h2", {}, chart.title, element("span", { class: "muted" }, averaged));
    holder.append(element("div", { class: "chart" }, title, legend, place));
    writeLegend(chart, legend, null);
    let drawn = 0;
    new ResizeObserver(() => {
      if (drawn === place.clientWidth) return;
      drawn = place.clientWidth;
      drawChart(chart, place, legend);
    }).observe(place);
  }
}
