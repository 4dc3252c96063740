// Elements, marks and grids.

const page = JSON.parse(document.getElementById("data").textContent);
const settings = { digits: false };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A shape of its own for each outcome, so that none needs its color to be told.
const SHAPES = {
  solved: "M4 10.5 8.5 15 16.5 5",
  nearly: "M3 8c3-4 5 2 7 0s4-3 7-1M3 14c3-4 5 2 7 0s4-3 7-1",
  cells: "M5 5 15 15M15 5 5 15",
  size: "M3 3H12V12H3ZM8 17H17V8",
  none: "M10 3a7 7 0 1 0 .01 0M5 15 15 5",
  unknown: "M6 7.5a4 4 0 1 1 5.5 3.7c-1 .4-1.5 1-1.5 2.3M10 16.5v.6",
  outvoted: "M5 17V11M10 17V3M15 17V8M3 17H17",
};

function mark(outcome, label = "") {
  const about = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return drawing(
    "svg", { viewBox: "0 0 20 20", class: `mark ${outcome}`, ...about },
    drawing("path", {
      d: SHAPES[outcome], fill: "none", stroke: "currentColor", "stroke-width": 2.6, "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}

const parsed = new Map();

function rowsOf(text) {
  if (!parsed.has(text)) parsed.set(text, text.split("/").map((row) => Array.from(row, Number)));
  return parsed.get(text);
}

function sizeOf(text) {
  const rows = rowsOf(text);
  return `${rows.length} x ${rows[0].length}`;
}

// The cells of a grid, as [row, column], that are not the same in another; null if their sizes differ.
function differences(text, other) {
  const [rows, others] = [rowsOf(text), rowsOf(other)];
  if (rows.length !== others.length || rows[0].length !== others[0].length) return null;
  return rows.flatMap((row, y) => row.flatMap((value, x) => (value === others[y][x] ? [] : [[y, x]])));
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function isLight(value) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(page.palette[value].slice(at, at + 2), 16));
  return 0.3 * red + 0.6 * green + 0.1 * blue > 120;
}

// A canvas of a grid. options: most, its longest side in pixels; label, what it is; wrong, changed: cells to
// mark; given: the grid of a Sudoku's givens.
function gridCanvas(text, options) {
  const rows = rowsOf(text);
  const [height, width] = [rows.length, rows[0].length];
  const fit = (options.most - 1) / Math.max(height, width);
  // Small cells may be fractions of a pixel wide: rounding them down would shrink the grid by half.
  const cell = fit < 6 ? fit : Math.min(26, Math.floor(fit));
  const canvas = element("canvas", { role: "img", "aria-label": `${options.label}, ${sizeOf(text)}` });
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.ceil((width * cell + 1) * scale);
  canvas.height = Math.ceil((height * cell + 1) * scale);
  canvas.style.width = `${width * cell + 1}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const isSudoku = page.family === "sudoku";
  pen.fillStyle = isSudoku ? color("--panel") : color("--cell-line");
  pen.fillRect(0, 0, width * cell + 1, height * cell + 1);
  const gap = cell >= 6 ? 1 : 0;
  rows.forEach((row, y) => row.forEach((value, x) => {
    if (!isSudoku) {
      pen.fillStyle = page.palette[value];
      const [left, top, right, bottom] = [x, y, x + 1, y + 1].map((edge) => Math.round(edge * cell));
      pen.fillRect(left + gap, top + gap, right - left - gap, bottom - top - gap);
    }
    if (isSudoku ? value > 0 : settings.digits && cell >= 9) writeDigit(pen, value, x, y, cell, options.given);
  }));
  if (isSudoku) drawBoxes(pen, rows.length, cell);
  const markWrong = isSudoku || (settings.digits && cell >= 9) ? drawFrame : drawCross;
  for (const [y, x] of options.wrong || []) markWrong(pen, x * cell + 0.5, y * cell + 0.5, cell);
  for (const [y, x] of options.changed || []) drawCorner(pen, x * cell + gap, y * cell + gap, cell);
  return canvas;
}

function writeDigit(pen, value, x, y, cell, given) {
  const isGiven = page.family === "sudoku" && rowsOf(given)[y][x] === value;
  pen.font = `${isGiven ? "bold " : ""}${Math.floor(cell * 0.66)}px sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  if (page.family === "sudoku") pen.fillStyle = color(isGiven ? "--given" : "--filled");
  else pen.fillStyle = isLight(value) ? "#000000" : "#ffffff";
  pen.fillText(page.symbols[value], (x + 0.5) * cell + 0.5, (y + 0.54) * cell + 0.5);
}

function drawBoxes(pen, side, cell) {
  const [boxHeight, boxWidth] = page.box;
  for (let at = 0; at <= side; at += 1) {
    for (const [size, across] of [[boxWidth, true], [boxHeight, false]]) {
      pen.fillStyle = color(at % size ? "--line" : "--given");
      if (across) pen.fillRect(at * cell, 0, 1, side * cell + 1);
      else pen.fillRect(0, at * cell, side * cell + 1, 1);
    }
  }
}

// White on black, so that it shows on every color.
function drawCross(pen, left, top, cell) {
  const inset = cell * 0.28;
  for (const [style, width] of [["#000000", Math.max(2, cell * 0.26)], ["#ffffff", Math.max(1, cell * 0.12)]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(left + inset, top + inset);
    pen.lineTo(left + cell - inset, top + cell - inset);
    pen.moveTo(left + cell - inset, top + inset);
    pen.lineTo(left + inset, top + cell - inset);
    pen.stroke();
  }
}

// In place of a cross where a digit is to be read.
function drawFrame(pen, left, top, cell) {
  const styles = page.family === "sudoku" ? [[color("--bad"), 2]] : [["#000000", 4], ["#ffffff", 2]];
  for (const [style, width] of styles) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.strokeRect(left + 2, top + 2, cell - 4, cell - 4);
  }
}

function drawCorner(pen, left, top, cell) {
  const size = Math.max(3, cell * 0.45);
  pen.beginPath();
  pen.moveTo(left, top);
  pen.lineTo(left + size, top);
  pen.lineTo(left, top + size);
  pen.closePath();
  pen.fillStyle = "#ffffff";
  pen.fill();
  pen.strokeStyle = "#000000";
  pen.lineWidth = 1;
  pen.stroke();
}
