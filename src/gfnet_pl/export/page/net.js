// The net, unpacked from this page and run by onnxruntime-web on one thread, and what its outputs say.

const LACKS = [
  ["WebAssembly", "This browser runs no WebAssembly, so the net cannot run here."],
  ["DecompressionStream", "This browser is too old to unpack the net: it has no DecompressionStream."],
  ["OffscreenCanvas", "This browser is too old: it has no OffscreenCanvas."],
];

// A sentence about what is missing; "" if all is here.
function missing() {
  return (LACKS.find(([name]) => typeof globalThis[name] === "undefined") ?? ["", globalThis.ort ? "" : "The net's runtime could not be loaded."])[1];
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// The content of an element, packed by gzip and base64; it is let go.
async function unpacked(id) {
  const element = document.getElementById(id);
  const packed = bytesOf(element.textContent);
  element.remove();
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

class Net {
  constructor(session, described) {
    Object.assign(this, { session, described, last: Promise.resolve() });
  }

  static async load(described) {
    const [runtime, model] = await Promise.all([unpacked("runtime"), unpacked("model")]);
    Object.assign(ort.env.wasm, { wasmBinary: runtime, numThreads: 1 });
    return new Net(await ort.InferenceSession.create(new Uint8Array(model), { logSeverityLevel: 3 }), described);
  }

  // One picture's levels -> { logits, probabilities, features, distance }.
  async run(levels) {
    const { colour, height, width } = this.described.canvas;
    const images = new ort.Tensor("uint8", levels, [1, colour ? 3 : 1, height, width]);
    const mine = this.last.then(() => this.session.run({ images })); // one after another: a frame, and one that is learned
    this.last = mine.catch(() => {});
    const outputs = await mine;
    return { logits: outputs.logits.data, probabilities: outputs.probabilities.data, features: outputs.features.data, distance: outputs.distance?.data };
  }

  // What is to be said of the outputs. accepted is null if that is unknown.
  verdict({ probabilities, distance }) {
    const { classes, thresholds, familiar_within: limit } = this.described;
    const order = [...probabilities.keys()].sort((one, other) => probabilities[other] - probabilities[one] || one - other);
    const top = order.slice(0, 3).map((place) => ({ label: classes[place], probability: probabilities[place] }));
    const { label, probability } = top[0];
    const said = (accepted, why) => ({ top, label, probability, accepted, why });
    if (!thresholds.length) return said(null, "The net was not tested, so its probabilities mean little.");
    if (limit !== null && distance && !(distance[0] <= limit)) return said(false, "This is unlike the pictures that it learned from.");
    const { threshold, error_rate: rate } = thresholds[0];
    if (threshold === null) return said(null, `No probability is high enough to promise that at most ${100 * rate} % are wrong.`);
    if (!(probability >= threshold)) {
      const digits = [0, 1, 2, 3].find((count) => percent(probability, count) !== percent(threshold, count)) ?? 4;
      return said(false, `${percent(probability, digits)} is too little: it accepts from ${percent(threshold, digits)} on.`);
    }
    return said(true, `Accepted: of those accepted, at most ${100 * rate} % are wrong, ${this.described.calibrated}.`);
  }
}

// "98 %", and never "100 %" or "0 %" of what is a little less or more.
function percent(share, digits = 0) {
  const shown = (100 * share).toFixed(digits), step = 10 ** -digits;
  if (share < 1 && Number(shown) === 100) return `over ${(100 - step).toFixed(digits)}\u00a0%`;
  return `${share > 0 && Number(shown) === 0 ? `under ${step.toFixed(digits)}` : shown}\u00a0%`;
}

// Runs the pictures that came with the net: the outputs must be those of PyTorch, and their files must become their pixels.
// Throws an error with a sentence; else says what differed.
async function selfTest(net, vectors, limits) {
  const largest = (one, other) => one.reduce((most, value, place) => Math.max(most, Math.abs(value - other[place])), 0);
  const found = { given: [], outputs: 0, levels: 0, changed: 0, files: 0, unread: 0 };
  for (const vector of vectors) {
    const outputs = await net.run(vector.pixels);
    found.given.push(outputs);
    for (const [name, wanted] of Object.entries(vector.outputs)) {
      const off = largest(wanted, outputs[name]);
      found.outputs = Math.max(found.outputs, off);
      if (!(off <= limits[name])) throw new Error(`the net gives other ${name} here than where it was made (${off.toPrecision(2)} off, ${limits[name].toPrecision(2)} is allowed)`);
    }
    if (!vector.file) continue;
    let levels;
    try {
      levels = await pixelsOfFile(vector.file, net.described.canvas);
    } catch {
      found.unread += 1; // a format that this browser does not read
      continue;
    }
    found.files += 1;
    found.levels = Math.max(found.levels, largest(vector.pixels, levels));
    const mean = levels.reduce((sum, level, place) => sum + Math.abs(level - vector.pixels[place]), 0) / levels.length;
    if (mean > limits.levels) throw new Error(`${vector.name} is decoded otherwise here (by ${mean.toFixed(1)} grey levels on average)`);
    if (found.levels && net.verdict(await net.run(levels)).label !== net.verdict(outputs).label) found.changed += 1;
  }
  return found;
}
