"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [SET, LABEL, SAID, PERCENT, PATH, GROUP] = [0, 1, 2, 3, 4, 5]; // of a row of data.pictures, whose number is its place on the sheet
const MOST_IN_MATRIX = 40, MOST_IN_LIST = 30, MOST_NEVER_WRONG = 60;
const byId = (name) => document.getElementById(name);
const all = (selector) => [...document.querySelectorAll(selector)];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// In percent of the box, so that a thumbnail is as large as its place.
function thumbnail(number) {
  const { columns, rows } = data.sheet;
  const part = (place, count) => (count > 1 ? (100 * place) / (count - 1) : 0);
  const box = make("div", { className: "thumb", title: data.pictures[number][PATH] });
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", data.pictures[number][PATH]);
  box.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  box.style.backgroundPosition = `${part(number % columns, columns)}% ${part(Math.floor(number / columns), rows)}%`;
  return box;
}

function words(number) {
  const row = data.pictures[number];
  const said = row[LABEL] === row[SAID] ? `${data.classes[row[LABEL]]}, right` : `${data.classes[row[LABEL]]}, taken for ${data.classes[row[SAID]]}`;
  return `${said} (${row[PERCENT]} %) · ${data.sets[row[SET]].name}${row[GROUP] ? " · " + row[GROUP] : ""}`;
}

// A path that may break after each of its parts.
function breakable(path) {
  return path.split(/(?<=[/_-])/).flatMap((part) => [part, make("wbr")]);
}

// The set that is shown: its matrix, classes, people and probabilities.
function choose(number) {
  for (const button of all("[data-choose]")) button.setAttribute("aria-pressed", String(Number(button.dataset.choose) === number));
  for (const part of all("[data-of-set]")) part.hidden = Number(part.dataset.ofSet) !== number;
  drawConfusion(number);
}

function drawConfusion(set) {
  const counts = data.sets[set].confusion;
  const totals = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const wrong = counts.map((row, label) => totals[label] - row[label] + counts.reduce((sum, other) => sum + other[label], 0) - row[label]);
  const worst = [...counts.keys()].sort((a, b) => wrong[b] - wrong[a]).slice(0, MOST_IN_MATRIX).sort((a, b) => a - b);
  byId("pictures").hidden = true;
  byId("mistakes").after(byId("pictures"));
  const cell = (label, said, properties) => {
    const count = counts[label][said];
    const title = `${data.classes[label]} ${label === said ? "right" : "taken for " + data.classes[said]}: ${count} of ${totals[label]}`;
    const button = make("button", { type: "button", title, ...properties });
    button.dataset.cell = `${label}-${said}`;
    button.addEventListener("click", () => showCell(set, label, said, count, button));
    return button;
  };
  drawMatrix(counts, totals, worst, cell);
  drawMistakes(counts, totals, cell);
  byId("left-out").textContent = worst.length < counts.length ? `The ${worst.length} of ${counts.length} classes with the most mistakes.` : "";
  const most = all("#matrix .miss button").sort((a, b) => b.dataset.count - a.dataset.count)[0] || all("#matrix .hit button")[0];
  if (most && !onPhone.matches) most.click();
}

function drawMatrix(counts, totals, shown, cell) {
  const longest = Math.max(...shown.map((label) => data.classes[label].length));
  const table = byId("matrix");
  table.style.setProperty("--classes", shown.length);
  table.style.setProperty("--longest", longest);
  const heads = shown.map((label) => {
    const name = data.classes[label];
    return make("th", { scope: "col", title: name }, name.length > 2 ? make("span", { textContent: name }) : name);
  });
  const rows = shown.map((label) => make("tr", {}, make("th", { scope: "row", textContent: data.classes[label], title: data.classes[label] }), ...shown.map((said) => {
    const count = counts[label][said];
    if (!count) return make("td");
    const share = count / totals[label];
    const box = make("td", { className: label === said ? "hit" : share > 0.3 ? "miss dark" : "miss" });
    box.style.setProperty("--share", share);
    const button = cell(label, said, { textContent: count < 1000 ? count : (count / 1000).toFixed(1) + "k", tabIndex: -1 });
    button.dataset.count = count;
    box.append(button);
    return box;
  })));
  table.replaceChildren(make("thead", {}, make("tr", {}, make("th", { ariaLabel: "true class, by what it was taken for" }), ...heads)), make("tbody", {}, ...rows));
  const first = table.querySelector("button");
  if (first) first.tabIndex = 0;
}

// One stop of the Tab key; arrows go to the next cell that has pictures.
byId("matrix").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const here = event.target.closest("td");
  if (!step || !here) return;
  event.preventDefault();
  const rows = [...byId("matrix").tBodies[0].rows];
  let [row, column] = [rows.indexOf(here.parentElement), here.cellIndex];
  for (;;) {
    row += step[0];
    column += step[1];
    const next = rows[row] && rows[row].cells[column];
    if (!next || next.tagName !== "TD") return;
    const button = next.querySelector("button");
    if (!button) continue;
    event.target.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
    return;
  }
});

function drawMistakes(counts, totals, cell) {
  const wrong = (label) => totals[label] - counts[label][label];
  const seen = [...counts.keys()].filter((label) => totals[label]).sort((a, b) => wrong(b) / totals[b] - wrong(a) / totals[a]);
  const rows = seen.filter(wrong).map((label) => {
    const said = [...counts.keys()].filter((other) => other !== label && counts[label][other]).sort((a, b) => counts[label][b] - counts[label][a]);
    const chips = said.slice(0, 4).map((other) => {
      const chip = cell(label, other, { textContent: `${data.classes[other]} ${counts[label][other]}` });
      chip.style.setProperty("--share", counts[label][other] / totals[label]);
      return chip;
    });
    const right = counts[label][label];
    const share = `${right} of ${totals[label]}`;
    return make("div", { className: "mistake" }, make("b", { textContent: data.classes[label] }), make("span", {}, ...chips, said.length > 4 ? `+ ${said.length - 4}` : ""),
      make("span", {}, right ? cell(label, label, { textContent: share, className: "right" }) : share));
  });
  const shown = rows.slice(0, MOST_IN_LIST);
  if (rows.length > shown.length) shown.push(make("details", {}, make("summary", { textContent: `${rows.length - shown.length} more` }), ...rows.slice(MOST_IN_LIST)));
  const never = seen.filter((label) => !wrong(label)).slice(0, MOST_NEVER_WRONG);
  if (never.length) shown.push(make("div", { className: "mistake never" }, "Never wrong: ", ...never.map((label) => cell(label, label, { textContent: `${data.classes[label]} ${totals[label]}`, className: "right" }))));
  byId("mistakes").replaceChildren(make("p", { className: "quiet", textContent: "Each class, what it was taken for, and how many were right. Tap for the pictures." }), ...shown);
}

function showCell(set, label, said, count, button) {
  for (const other of all("[data-cell]")) other.setAttribute("aria-pressed", String(other.dataset.cell === button.dataset.cell));
  const mine = [...data.pictures.keys()].filter((number) => {
    const row = data.pictures[number];
    return row[SET] === set && row[LABEL] === label && row[SAID] === said;
  });
  const title = label === said ? `${data.classes[label]}, right; least sure first` : `${data.classes[label]} taken for ${data.classes[said]}`;
  const shown = mine.length < count ? `${mine.length} of ${count} shown` : `${count}`;
  byId("shelf-title").textContent = data.sheet ? `${title}: ${shown}` : `${title}: ${count}. ${data.noPictures}`;
  byId("shelf").replaceChildren(...(data.sheet ? mine : []).map((number) => {
    const row = data.pictures[number];
    return make("figure", {}, thumbnail(number), make("figcaption", {}, make("b", { textContent: `${row[PERCENT]} %` }), make("br"), ...breakable(row[PATH])));
  }));
  const row = button.closest(".mistake");
  if (row) row.after(byId("pictures")); else byId("mistakes").after(byId("pictures"));
  byId("pictures").hidden = false;
  byId("pictures").scrollTop = 0;
}

// The two maps share their pictures: what is near the pointer on one is ringed on the other, with all of its class.
function drawMaps() {
  const maps = all("canvas[data-map]");
  let near = -1;
  const rowOf = (index) => data.pictures[data.maps.pictures[index]];
  const draw = () => maps.forEach((canvas) => {
    const points = data.maps[canvas.dataset.map];
    const side = canvas.clientWidth, scale = window.devicePixelRatio || 1;
    canvas.width = canvas.height = side * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const at = ([x, y]) => [14 + x * (side - 28), 14 + (1 - y) * (side - 28)];
    const colour = (name) => getComputedStyle(document.body).getPropertyValue(name);
    const [ink, quiet, accent, bad, card] = ["--ink", "--quiet", "--accent", "--bad", "--card"].map(colour);
    const dot = (index, radius) => { pen.beginPath(); pen.arc(...at(points[index]), radius, 0, 7); pen.fill(); };
    const lit = (index) => near >= 0 && rowOf(index)[LABEL] === rowOf(near)[LABEL];
    const layers = [[quiet, 0.38, (i) => !lit(i)], [accent, 0.9, lit], [bad, 0.95, (i) => rowOf(i)[LABEL] !== rowOf(i)[SAID]]];
    for (const [paint, alpha, wanted] of layers) {
      pen.fillStyle = paint;
      pen.globalAlpha = alpha;
      points.forEach((_, index) => { if (wanted(index)) dot(index, 2.6); });
    }
    pen.globalAlpha = 1;
    pen.font = "600 12px " + getComputedStyle(document.body).fontFamily;
    pen.textAlign = "center"; pen.textBaseline = "middle"; pen.lineWidth = 3; pen.lineJoin = "round"; pen.strokeStyle = card; pen.fillStyle = ink;
    data.classes.forEach((name, label) => { // at the median of its pictures, where at least half of them are near it
      const mine = points.filter((_, index) => rowOf(index)[LABEL] === label).map(at);
      if (!mine.length) return;
      const middle = [0, 1].map((axis) => mine.map((point) => point[axis]).sort((a, b) => a - b)[mine.length >> 1]);
      const around = mine.filter((point) => Math.hypot(point[0] - middle[0], point[1] - middle[1]) < side / 10);
      if (around.length * 2 < mine.length) return;
      pen.strokeText(name, ...middle);
      pen.fillText(name, ...middle);
    });
    if (near >= 0) { pen.strokeStyle = ink; pen.lineWidth = 2; pen.beginPath(); pen.arc(...at(points[near]), 7, 0, 7); pen.stroke(); }
  });
  const hover = byId("hover");
  const look = (canvas) => (event) => {
    const box = canvas.getBoundingClientRect(), side = box.width;
    const x = (event.clientX - box.left - 14) / (side - 28), y = 1 - (event.clientY - box.top - 14) / (side - 28);
    const distance = data.maps[canvas.dataset.map].map(([a, b]) => Math.hypot(a - x, b - y) * side);
    const best = distance.indexOf(Math.min(...distance));
    const before = near;
    near = distance[best] < 14 ? best : -1;
    if (near !== before) draw();
    hover.style.display = near < 0 ? "none" : "block";
    if (near < 0) return;
    const number = data.maps.pictures[near];
    if (near !== before) hover.replaceChildren(...(data.sheet ? [thumbnail(number)] : []), words(number) + " " + data.pictures[number][PATH]);
    hover.style.left = Math.min(event.clientX + 14, window.innerWidth - 140) + "px";
    hover.style.top = Math.min(event.clientY + 14, window.innerHeight - 210) + "px";
  };
  for (const canvas of maps) {
    canvas.addEventListener("pointermove", look(canvas));
    canvas.addEventListener("pointerdown", look(canvas));
    canvas.addEventListener("pointerleave", () => { near = -1; hover.style.display = "none"; draw(); });
  }
  if (maps.length) {
    window.addEventListener("resize", draw);
    for (const medium of ["(prefers-color-scheme: dark)", "print"]) window.matchMedia(medium).addEventListener("change", draw);
    draw();
  }
}

const onPhone = window.matchMedia("(max-width: 860px)");
let chosen = 0;
for (const button of all("[data-choose]")) {
  button.addEventListener("click", () => { // what is below stays where it is on the screen
    const before = button.getBoundingClientRect().top;
    choose(chosen = Number(button.dataset.choose));
    window.scrollBy(0, button.getBoundingClientRect().top - before);
  });
}
for (const box of all("[data-thumbnail]")) box.replaceWith(thumbnail(Number(box.dataset.thumbnail)));
if (data.sets.length) choose(chosen);
onPhone.addEventListener("change", () => choose(chosen));
drawMaps();

// The section that is read, in the list of sections: the last one that has begun.
const links = all("nav a").map((link) => [link, byId(link.hash.slice(1))]).filter(([, section]) => section);
function mark() {
  const begun = links.filter(([, section]) => section.getBoundingClientRect().top < window.innerHeight / 3);
  for (const [link, section] of links) {
    if (begun.length && section === begun[begun.length - 1][1]) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}
window.addEventListener("scroll", mark, { passive: true });
mark();
