// Spelling: a class is typed when it was accepted for FRAMES frames and SECONDS in a row. A few frames that say something
// else are forgiven. The same letter comes again only after a pause or another sign.

const FRAMES = 8, SECONDS = 0.7, FORGIVEN = 3;
const held = { label: "", frames: 0, since: 0, others: 0, done: false };
const KEYS = { space: " ", nothing: "", blank: "", del: null, delete: null }; // classes of the known sets that are no letters

function typed({ label, accepted }, now) {
  if (!byId("writing")) return;
  if (accepted === true && label === held.label) Object.assign(held, { frames: held.frames + 1, others: 0 });
  else {
    held.others += 1;
    if (held.others > FORGIVEN || !held.frames) Object.assign(held, { label: accepted ? label : "", frames: accepted ? 1 : 0, since: now, others: 0, done: false });
  }
  const share = held.frames ? Math.min(1, held.frames / FRAMES, (now - held.since) / (1000 * SECONDS)) : 0;
  const writes = KEYS[held.label.toLowerCase()] !== "";
  byId("held").style.setProperty("--share", `${writes ? 100 * share : 0}%`);
  if (share < 1 || held.done) return;
  held.done = true;
  press(held.label);
}

function press(label) {
  const key = label.toLowerCase() in KEYS ? KEYS[label.toLowerCase()] : label.length > 1 ? `${label} ` : label;
  if (key === "") return;
  write(key === null ? spelled().slice(0, -1) : spelled() + key);
  byId("said").textContent = `typed ${label}`;
}

const spelled = () => byId("text").textContent;

function write(text) {
  byId("text").textContent = text;
}

byId("delete")?.addEventListener("click", () => write(spelled().slice(0, -1)));
byId("clear")?.addEventListener("click", () => write(""));
byId("copy")?.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(spelled());
  } catch {
    getSelection().selectAllChildren(byId("text")); // a browser that refuses lets it be copied by hand
    trouble("The browser does not let the page copy: the text is marked, copy it with the keyboard.");
  }
});
