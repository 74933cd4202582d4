// NumPy's .npz, as `gfnet enrol` writes it and reads it: a .zip of arrays, nothing packed.

const KINDS = {
  "<f4": Float32Array,
  "<i8": BigInt64Array,
};

// The arrays of a file by name: numbers as a typed array, texts as a list. Throws an error if it is anything else.
function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), found = {};
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  for (let left = view.getUint16(end + 10, true), at = view.getUint32(end + 16, true); left; left -= 1) {
    const [size, name, extra, note] = [view.getUint32(at + 24, true), view.getUint16(at + 28, true), view.getUint16(at + 30, true), view.getUint16(at + 32, true)];
    const start = view.getUint32(at + 42, true);
    if (view.getUint16(at + 10, true)) throw new Error("it is packed");
    const title = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + name)).replace(/\.npy$/, "");
    const content = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    found[title] = readNpy(bytes.slice(content, content + size));
    at += 46 + name + extra + note;
  }
  return found;
}

function readNpy(bytes) {
  const long = bytes[6] > 1, view = new DataView(bytes.buffer);
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const heading = new TextDecoder("latin1").decode(bytes.subarray(long ? 12 : 10, start));
  const kind = /'descr': '([^']+)'/.exec(heading)[1], body = bytes.slice(start);
  const shape = /'shape': \(([^)]*)\)/.exec(heading)[1].split(",").filter((word) => word.trim()).map(Number);
  if (heading.includes("True")) throw new Error("its columns come first");
  if (!kind.startsWith("<U")) return { shape, values: new KINDS[kind](body.buffer) };
  const size = Number(kind.slice(2)), codes = new Uint32Array(body.buffer), values = [];
  for (let at = 0; at < codes.length; at += size) values.push(String.fromCodePoint(...codes.slice(at, at + size).filter(Boolean)));
  return { shape, values };
}

function npy(kind, shape, body) {
  const shown = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const heading = `{'descr': '${kind}', 'fortran_order': False, 'shape': ${shown}, }`;
  const filled = `${heading.padEnd(Math.ceil((heading.length + 11) / 64) * 64 - 11)}\n`;
  const start = [0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, filled.length & 255, filled.length >> 8];
  return new Uint8Array([...start, ...new TextEncoder().encode(filled), ...new Uint8Array(body.buffer)]);
}

function texts(list, shape = [list.length]) {
  const size = Math.max(1, ...list.map((text) => [...text].length));
  const codes = list.flatMap((text) => [...text].map((letter) => letter.codePointAt(0)).concat(Array(size).fill(0)).slice(0, size));
  return npy(`<U${size}`, shape, new Uint32Array(codes));
}

function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

// Arrays by name, each as `npy` makes them -> the bytes of a .npz.
function writeNpz(arrays) {
  const parts = [], ends = [];
  const numbers = (...pairs) => {
    const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [size]) => sum + size, 0)));
    pairs.reduce((at, [size, value]) => (size === 2 ? view.setUint16(at, value, true) : view.setUint32(at, value, true), at + size), 0);
    return new Uint8Array(view.buffer);
  };
  let at = 0;
  for (const [name, content] of Object.entries(arrays)) {
    const title = new TextEncoder().encode(`${name}.npy`);
    // version, flags, stored, time and date (1 January 1980), CRC, sizes, length of the name, nothing further
    const common = [[2, 20], [2, 0], [2, 0], [2, 0], [2, 33], [4, crc32(content)], [4, content.length], [4, content.length], [2, title.length], [2, 0]];
    parts.push(numbers([4, 0x04034b50], ...common), title, content);
    ends.push(numbers([4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), title);
    at += 30 + title.length + content.length;
  }
  const size = ends.reduce((sum, part) => sum + part.length, 0), count = Object.keys(arrays).length;
  return new Blob([...parts, ...ends, numbers([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, at], [2, 0])]);
}
