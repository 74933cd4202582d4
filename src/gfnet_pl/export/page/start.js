// The page opens: the net is loaded and tested, and only then anything can be given to it.

function said(found) {
  const words = [`Self-test passed: ${vectors.length} pictures, outputs within ${Number(found.outputs.toPrecision(1))} of PyTorch's`];
  if (found.files) words.push(found.levels ? `their files decoded within ${found.levels} grey levels` : "their files decoded to the same levels");
  if (found.changed) words.push(`which changes the class of ${found.changed}`);
  if (found.unread) words.push(`${found.unread} in a format that this browser does not read`);
  return `${words.join(", ")}.`;
}

function checked(sentence, name) {
  Object.assign(byId("check"), { textContent: sentence, className: `check ${name}` });
}

async function begin() {
  let found;
  try {
    const lack = missing();
    if (lack) throw new Error(lack);
    const loaded = await Net.load(described);
    found = await selfTest(loaded, vectors, data.limits);
    net = loaded;
    checked(said(found), "good");
  } catch (error) {
    checked(`The page is stopped. ${error.message}`, "bad");
    return;
  }
  for (const name of ["webcam", "files", "given"]) byId(name).disabled = false;
  recall();
  for (const [place, { pixels, name, label, file }] of vectors.entries()) {
    const button = await added({ levels: pixels, outputs: found.given[place], name: `${name}, labelled ${label}`, file, own: false }, false);
    if (!place) button.click(); // so that the page shows what it does
  }
  document.body.dataset.ready = Math.round(performance.now());
}

globalThis.gfnet = { pixelsOf, pixelsOfFile, run: (levels) => net.run(levels) }; // for the browser's console, and for tests
begin();
