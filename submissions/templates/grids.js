// Elements, marks and grids. A grid is a text: the digits of its rows, "/" between them.

const page = JSON.parse(document.getElementById("data").textContent);
const settings = { digits: false };
const isArc = page.family === "arc";
const isSudoku = page.family === "sudoku";

// An element: its name and class as in "div.row", its attributes and listeners if there are any, what it holds.
function element(name, ...content) {
  const [tag, kind] = name.split(".");
  const isDrawn = ["svg", "path", "text"].includes(tag);
  const made = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (kind) made.setAttribute("class", kind);
  const attributes = content[0]?.constructor === Object ? content.shift() : {};
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...content.flat().filter(Boolean));
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
  tie: "M3 7H17M3 13H17",
  outvoted: "M5 17V11M10 17V3M15 17V8M3 17H17",
};

function mark(outcome, label = "") {
  const about = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return element(`svg.mark ${outcome}`, { viewBox: "0 0 20 20", ...about }, element("path", { d: SHAPES[outcome] }));
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

function isLight(value) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(page.palette[value].slice(start, start + 2), 16));
  return 0.3 * red + 0.6 * green + 0.1 * blue > 120;
}

// Paths, a cell being 1 wide: the same shape in each of some cells, and lines across a grid.
const inCells = (cells, shape) => cells.map(([y, x]) => `M${x} ${y}${shape}`).join("");

function linesAcross(height, width, [tall, wide]) {
  let path = "";
  for (let x = 0; x <= width; x += wide) path += `M${x} 0V${height}`;
  for (let y = 0; y <= height; y += tall) path += `M0 ${y}H${width}`;
  return path;
}

// A grid. options: most, its longest side in pixels; label, what it is; wrong, changed: cells to mark; given:
// the grid of a Sudoku's givens.
function gridDrawing(text, options) {
  const [height, width] = sizeOf(text).split(" x ").map(Number);
  const cell = Math.min(26, options.most / Math.max(height, width));
  const cells = cellsOf(text);
  const withText = isSudoku || (settings.digits && cell >= 9);
  const parts = [];
  const add = (name, d, style = "") => d && parts.push(element(`path.${name}`, { d, style }));
  if (!isSudoku) {
    page.palette.forEach((color, value) => {
      add("fill", inCells(cells.filter((one) => one[2] === value), "h1v1h-1z"), `fill: ${color}`);
    });
  }
  const given = isSudoku ? rowsOf(options.given) : null;
  for (const [y, x, value] of withText ? cells : []) {
    if (isSudoku && !value) continue;
    const ofSudoku = isSudoku && (given[y][x] === value ? "given" : "filled");
    const name = ofSudoku || (isLight(value) ? "dark" : "light");
    parts.push(element(`text.${name}`, { x: x + 0.5, y: y + 0.74 }, page.symbols[value]));
  }
  if (cell >= 6) add("line", linesAcross(height, width, [1, 1]));
  if (isSudoku) add("box", linesAcross(height, width, page.box));
  // A frame in place of a cross where a digit is to be read.
  const wrong = inCells(options.wrong || [], withText ? "m.1.1h.8v.8h-.8z" : "m.25.25l.5.5m0-.5l-.5.5");
  if (!isSudoku) add("wrong under", wrong, `stroke-width: ${Math.max(0.26, 2.6 / cell)}`);
  add(isSudoku ? "wrong sudoku" : "wrong", wrong, `stroke-width: ${Math.max(0.12, 1.2 / cell)}`);
  add("changed", inCells(options.changed || [], "h.45l-.45.45z"));
  return element("svg.grid", {
    role: "img", "aria-label": `${options.label}, ${sizeOf(text)}`,
    viewBox: `-.02 -.02 ${width + 0.04} ${height + 0.04}`, width: width * cell, height: height * cell,
  }, parts);
}
