"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [SET, LABEL, SAID, PERCENT, PATH, GROUP] = [0, 1, 2, 3, 4, 5]; // of a row of data.pictures, whose number is its place on the sheet

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function thumbnail(number, side = 96) {
  const { columns, rows } = data.sheet;
  const box = make("div", { className: "thumb" });
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", data.pictures[number][PATH]);
  box.style.cssText = `width:${side}px;height:${side}px;background-image:var(--sheet);` +
    `background-size:${columns * side}px ${rows * side}px;` +
    `background-position:-${(number % columns) * side}px -${Math.floor(number / columns) * side}px`;
  return box;
}

function words(number) {
  const row = data.pictures[number];
  const said = row[LABEL] === row[SAID] ? `${data.classes[row[LABEL]]}, right` : `${data.classes[row[LABEL]]}, taken for ${data.classes[row[SAID]]}`;
  return `${said} (${row[PERCENT]} %) · ${data.sets[row[SET]].name}${row[GROUP] ? " · " + row[GROUP] : ""}`;
}

// The set that is shown: its matrix, its bars, its reliability.
function choose(number) {
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.choose) === number));
  }
  for (const part of document.querySelectorAll("[data-of-set]")) part.hidden = Number(part.dataset.ofSet) !== number;
  drawMatrix(number);
}

function drawMatrix(set) {
  const table = document.getElementById("matrix");
  if (!table) return;
  const counts = data.sets[set].confusion;
  const head = make("tr", {}, make("th", { textContent: "true \\ said" }), ...data.classes.map((name) => make("th", { scope: "col", textContent: name.slice(0, 3), title: name })));
  const rows = counts.map((row, label) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return make("tr", {}, make("th", { scope: "row", textContent: data.classes[label] }), ...row.map((count, said) => {
      const cell = make("td");
      if (!count) return cell;
      cell.className = label === said ? "hit" : "miss";
      cell.style.setProperty("--share", count / total);
      const title = `${data.classes[label]} taken for ${data.classes[said]}: ${count} of ${total}`;
      const button = make("button", { textContent: count, title });
      button.addEventListener("click", () => showCell(set, label, said, count, button));
      cell.append(button);
      return cell;
    }));
  });
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  document.getElementById("shelf-title").textContent = "Click a cell to see its pictures.";
  document.getElementById("shelf").replaceChildren();
}

function showCell(set, label, said, count, button) {
  for (const other of document.querySelectorAll("#matrix button")) other.removeAttribute("aria-pressed");
  button.setAttribute("aria-pressed", "true");
  const mine = [...data.pictures.keys()].filter((number) => {
    const row = data.pictures[number];
    return row[SET] === set && row[LABEL] === label && row[SAID] === said;
  });
  const title = label === said ? `${data.classes[label]}, right, least sure first` : `${data.classes[label]} taken for ${data.classes[said]}`;
  const shown = mine.length < count ? `${mine.length} of ${count} shown` : `${count}`;
  document.getElementById("shelf-title").textContent = data.sheet ? `${title}: ${shown}` : `${title}: ${count}. ${data.noPictures}`;
  document.getElementById("shelf").replaceChildren(...mine.map((number) => make("figure", { title: data.pictures[number][PATH] },
    thumbnail(number), make("figcaption", { textContent: words(number) + " " + data.pictures[number][PATH] }))));
}

// The two maps share their pictures: what is near the pointer on one is ringed on the other.
function drawMaps() {
  const maps = [...document.querySelectorAll("canvas[data-map]")];
  let near = -1;
  const colour = (label) => `hsl(${(label * 137.5) % 360} 65% 50%)`;
  const draw = () => maps.forEach((canvas) => {
    const points = data.maps[canvas.dataset.map];
    const side = canvas.clientWidth, scale = window.devicePixelRatio || 1;
    canvas.width = canvas.height = side * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const at = ([x, y]) => [14 + x * (side - 28), 14 + (1 - y) * (side - 28)];
    const ink = getComputedStyle(document.body).color;
    points.forEach((point, index) => {
      const row = data.pictures[data.maps.pictures[index]];
      const [x, y] = at(point);
      pen.fillStyle = colour(row[LABEL]);
      pen.globalAlpha = 0.75;
      pen.beginPath(); pen.arc(x, y, 2.6, 0, 7); pen.fill();
      pen.globalAlpha = 1;
      if (row[LABEL] !== row[SAID]) { // a cross in the colour of what it was taken for
        pen.strokeStyle = colour(row[SAID]); pen.lineWidth = 1.8;
        pen.beginPath(); pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x - 4, y + 4); pen.lineTo(x + 4, y - 4); pen.stroke();
      }
    });
    pen.font = "600 11px system-ui"; pen.textAlign = "center"; pen.fillStyle = ink;
    data.classes.forEach((name, label) => { // at the median of its pictures, where at least half of them are near it
      const mine = points.filter((_, index) => data.pictures[data.maps.pictures[index]][LABEL] === label).map(at);
      if (!mine.length) return;
      const middle = [0, 1].map((axis) => mine.map((point) => point[axis]).sort((a, b) => a - b)[mine.length >> 1]);
      const near = mine.filter((point) => Math.hypot(point[0] - middle[0], point[1] - middle[1]) < side / 10);
      if (near.length * 2 >= mine.length) pen.fillText(name, ...middle);
    });
    if (near >= 0) { pen.strokeStyle = ink; pen.lineWidth = 2; pen.beginPath(); pen.arc(...at(points[near]), 7, 0, 7); pen.stroke(); }
  });
  const hover = document.getElementById("hover");
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
    if (near !== before) hover.replaceChildren(...(data.sheet ? [thumbnail(number, 112)] : []), words(number) + " " + data.pictures[number][PATH]);
    hover.style.left = Math.min(event.clientX + 14, window.innerWidth - 140) + "px";
    hover.style.top = Math.min(event.clientY + 14, window.innerHeight - 190) + "px";
  };
  for (const canvas of maps) {
    canvas.addEventListener("pointermove", look(canvas));
    canvas.addEventListener("pointerdown", look(canvas));
    canvas.addEventListener("pointerleave", () => { near = -1; hover.style.display = "none"; draw(); });
  }
  if (maps.length) { window.addEventListener("resize", draw); window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw); draw(); }
}

for (const button of document.querySelectorAll("[data-choose]")) button.addEventListener("click", () => choose(Number(button.dataset.choose)));
for (const box of document.querySelectorAll("[data-thumbnail]")) box.replaceWith(thumbnail(Number(box.dataset.thumbnail)));
if (data.sets.length) choose(data.shown);
drawMaps();
