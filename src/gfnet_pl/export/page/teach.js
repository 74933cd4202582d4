// Teach it your hand: a person shows each sign, and the features of these pictures are compared with those to come, as
// `evaluation/enrolment.py` does. They are kept in this browser only, or in a file that `gfnet predict --person` reads.

const LEAST_SHARE = 1e-30, KEPT_AS = `gfnet-hand-${described.checkpoint_sha256}`;
const SETTLED = 1e9; // a gain that no further picture changes
// Sums of features by class, of the pictures as they are and as in a mirror, and by how much the latter are likelier.
const nobody = () => ({ sums: [[], []], counts: described.classes.map(() => 0), gain: 0 });
const person = nobody();
let current = null; // what is shown: its levels, outputs and name, and whether it is the person's own

const inMirror = ({ gain } = person) => Number(gain > data.mirrored_from);
const see = (levels, own) => net.run(own && inMirror() ? mirrorImage(levels, described.canvas) : levels);

const unit = (values) => {
  const length = Math.hypot(...values) || 1;
  return Float64Array.from(values, (value) => value / length);
};

// The net's probabilities with what the person has shown; the same where that is nothing.
function known(outputs) {
  const shown = person.counts.flatMap((count, place) => (count ? [place] : []));
  if (!shown.length) return outputs;
  const features = unit(outputs.features);
  const sums = person.sums[inMirror()];
  const cosines = shown.map((place) => unit(sums[place]).reduce((sum, value, at) => sum + value * features[at], 0));
  const nearest = Math.max(...cosines), scores = Array.from(outputs.probabilities, (share) => Math.log(Math.max(share, LEAST_SHARE)));
  shown.forEach((place, at) => { scores[place] += data.weight * (cosines[at] - nearest); });
  const highest = Math.max(...scores), powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((one, other) => one + other);
  return { ...outputs, probabilities: powers.map((power) => power / sum) };
}

const verdictOf = (outputs, own) => net.verdict(own ? known(outputs) : outputs);

// Shows what the net says of one picture, and keeps it as the one to learn from.
function present(levels, outputs, name, own) {
  current = { levels, outputs, name, own };
  const verdict = verdictOf(outputs, own);
  show(levels, verdict, name);
  byId("teach-this").disabled = !own;
  return verdict;
}

async function told(sentence) {
  const shown = person.counts.filter(Boolean).length;
  const state = shown ? `${shown} of ${person.counts.length} signs shown, ${person.counts.reduce((one, other) => one + other)} pictures.` : "Nothing shown yet.";
  const mirror = inMirror() ? "Your hand is more familiar in a mirror, as a left hand may be, and is seen in one from now on." : "";
  for (const id of ["forget", "keep"]) byId(id).disabled = !shown;
  for (const [place, option] of [...byId("sign").options].entries()) option.textContent = described.classes[place] + (person.counts[place] ? ` (${person.counts[place]})` : "");
  if (current && !stream) present(current.levels, await see(current.levels, current.own), current.name, current.own);
  for (const each of byId("shelf").children) await each.refresh?.();
  byId("taught").textContent = [state, mirror, sentence].filter(Boolean).join(" ");
}

function remember() {
  try {
    const sums = person.sums.map((each) => each.map((sum) => sum && [...sum]));
    if (person.counts.some(Boolean)) localStorage.setItem(KEPT_AS, JSON.stringify({ ...person, sums }));
    else localStorage.removeItem(KEPT_AS);
    return "";
  } catch {
    return "This browser keeps nothing: save it to a file.";
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT_AS));
    if (kept?.counts.length === person.counts.length && kept.counts.every((count, place) => !count || kept.sums[inMirror(kept)][place].length)) Object.assign(person, kept);
  } catch {
    // what cannot be read is as nothing
  }
  told("");
}

for (const name of described.classes) byId("sign").append(make("option", { textContent: name }));
byId("teach-this").addEventListener("click", async () => {
  const place = byId("sign").selectedIndex, { levels } = current;
  const both = [await net.run(levels), await net.run(mirrorImage(levels, described.canvas))];
  both.forEach(({ features }, way) => {
    const before = person.sums[way][place];
    person.sums[way][place] = Float64Array.from(features, (value, at) => value + (before?.[at] ?? 0));
  });
  const limit = described.familiar_within ?? Infinity; // beyond it all are equally strange
  const [plain, other] = both.map(({ probabilities, distance }) => Math.log(Math.max(probabilities[place], data.least_likely)) - (distance ? Math.min(distance[0], limit) : 0));
  if (!described.mirrored_views) person.gain += other - plain; // else the net looks in the mirror by itself
  person.counts[place] += 1;
  const next = person.counts.map((_, step) => (place + step) % person.counts.length).find((each) => !person.counts[each]);
  if (next !== undefined) byId("sign").selectedIndex = next;
  told(remember());
});
byId("forget").addEventListener("click", () => {
  Object.assign(person, nobody());
  told(remember() || "It is forgotten, in this browser too.");
});
byId("keep").addEventListener("click", () => {
  const size = current.outputs.features.length, sums = person.sums[inMirror()], number = (value) => npy("<i8", [], BigInt64Array.of(value));
  const means = Float32Array.from(person.counts.flatMap((count, place) => (count ? [...unit(sums[place])] : Array(size).fill(0))));
  const file = writeNpz({
    means: npy("<f4", [person.counts.length, size], means), counts: npy("<i8", [person.counts.length], BigInt64Array.from(person.counts, BigInt)),
    classes: texts(described.classes), net: texts([described.checkpoint_sha256], []), mirrored: number(BigInt(inMirror())), format: number(2n),
  });
  const link = make("a", { href: URL.createObjectURL(file), download: "me.npz" });
  link.click();
  URL.revokeObjectURL(link.href);
});
byId("given").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  try {
    const { means, counts, classes, net: of, mirrored } = readNpz(new Uint8Array(await file.arrayBuffer()));
    const size = means.shape[1], numbers = Array.from(counts.values, Number);
    if (of.values[0] !== described.checkpoint_sha256 || classes.values.join() !== described.classes.join()) throw new Error("it is of another net");
    if (![...means.values, ...numbers].every(Number.isFinite)) throw new Error("its numbers are none of a net");
    if (means.values.length !== size * numbers.length || size !== current.outputs.features.length) throw new Error("its arrays do not fit together");
    const sums = numbers.map((count, place) => (count ? Float64Array.from(means.values.slice(place * size, (place + 1) * size), (value) => value * count) : undefined));
    Object.assign(person, mirrored?.values[0] ? { sums: [[], sums], gain: SETTLED } : { sums: [sums, []], gain: -SETTLED }, { counts: numbers });
    told(remember());
  } catch (error) {
    told(`${file.name} cannot be taken: ${error.constructor === Error ? error.message : "it is no file of gfnet enrol or of this page"}.`);
  }
  target.value = "";
});
