// The page: what was given is shown to the net, and what the net says is shown.

const byId = (name) => document.getElementById(name);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const data = JSON.parse(byId("data").textContent);
const { described } = data;
const vectors = data.vectors.map((vector) => ({
  ...vector,
  pixels: bytesOf(vector.pixels),
  file: vector.file && new Blob([bytesOf(vector.file)]),
}));
let net; // once it has passed its test

// A level per pixel of one or three channels -> a canvas.
function draw(canvas, levels) {
  const { height, width, colour } = described.canvas;
  const count = height * width;
  const image = new ImageData(width, height);
  for (let place = 0; place < count; place += 1) {
    for (let channel = 0; channel < 3; channel += 1) image.data[4 * place + channel] = levels[colour ? channel * count + place : place];
    image.data[4 * place + 3] = 255;
  }
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function show(levels, verdict, name) {
  draw(byId("seen"), levels);
  const { label, probability, accepted, top, why } = verdict;
  const sure = accepted === true;
  byId("label").textContent = accepted === false ? "Not sure" : label;
  byId("label").className = `label${accepted === false ? " unsure" : label.length > 3 ? " long" : ""}`;
  byId("perhaps").textContent = sure ? percent(probability) : accepted === false ? `perhaps ${label}, ${percent(probability)}` : `${percent(probability)}, unknown how sure`;
  byId("why").textContent = why;
  byId("name").textContent = name;
  while (byId("top").children.length < top.length) byId("top").append(make("li", {}, make("b"), make("span"), make("i")));
  top.forEach((each, place) => {
    const [title, share, bar] = byId("top").children[place].children;
    title.textContent = each.label;
    share.textContent = percent(each.probability);
    bar.style.setProperty("--share", `${100 * each.probability}%`);
  });
}

const inWords = ({ label, probability, accepted }) =>
  accepted === false ? `not sure, perhaps ${label}, ${percent(probability)}` : `${label}, ${percent(probability)}`;

function trouble(sentence) {
  byId("trouble").textContent = sentence;
  byId("trouble").hidden = !sentence;
}

// One picture of the shelf: its levels, the net's outputs, the file, if it has one that the browser can show, and whether
// it is the person's own.
async function added({ levels, outputs, name, file, own }, first) {
  const small = await new Promise((resolve) => draw(make("canvas"), levels).toBlob(resolve));
  const title = make("span");
  const button = make("button", { type: "button", title: name }, draw(make("canvas"), levels), title);
  let way = own && inMirror();
  button.refresh = async () => {
    if (own && way !== inMirror()) [way, outputs] = [inMirror(), await see(levels, own)];
    const verdict = verdictOf(outputs, own), unsure = verdict.accepted === false;
    Object.assign(title, { textContent: unsure ? `${verdict.label}?` : verdict.label, className: unsure ? "unsure" : "" });
    button.setAttribute("aria-label", `${name}: ${inWords(verdict)}`);
  };
  button.refresh();
  button.addEventListener("click", () => {
    stopCamera();
    for (const each of byId("shelf").children) each.setAttribute("aria-pressed", String(each === button));
    view(file || small, small, name);
    byId("hint").hidden = true;
    byId("said").textContent = `${name}: ${inWords(present(levels, outputs, name, own))}`;
  });
  byId("shelf")[first ? "prepend" : "append"](button);
  return button;
}

// A picture on the stage; another one if the browser cannot show it.
function view(blob, instead, name) {
  const picture = byId("picture");
  URL.revokeObjectURL(picture.src);
  picture.onerror = blob === instead ? null : () => view(instead, instead, name);
  Object.assign(picture, { src: URL.createObjectURL(blob), alt: name, hidden: false });
}

let queue = Promise.resolve(); // one file after another, in the order in which they came

function take(files) {
  for (const file of files) queue = queue.then(() => classify(file)).catch(() => trouble(`${file.name || "This"} cannot be read as a picture here.`));
}

async function classify(file) {
  if (!net) return;
  trouble("");
  const levels = await pixelsOfFile(file, described.canvas);
  const outputs = await see(levels, true);
  (await added({ levels, outputs, name: file.name || "picture", file, own: true }, true)).click();
}

byId("files").addEventListener("change", ({ target }) => {
  take([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});
addEventListener("paste", ({ clipboardData }) => take([...clipboardData.files]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("stage").classList.add("over");
});
addEventListener("dragleave", () => byId("stage").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("stage").classList.remove("over");
  if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  else if (net) trouble("Only files can be dropped here: save the picture first.");
});
byId("licences").addEventListener("toggle", async () => {
  if (byId("notices")) byId("licences").querySelector("pre").textContent = await new Response(await unpacked("notices")).text();
});
