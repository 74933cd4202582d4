// What a picture is made into before the net sees it. The steps and their rounding are those of Pillow, as data/decode.py
// and data/canvas.py ask for them: from the same decoded pixels come the same levels.
// A plane is one channel: { width, height, levels }, row by row.

const PRECISION = 22; // bits behind the point of a weight: 255 of them fit into 32 bits
const GAP = 3; // a reduction by more than this is first done by whole numbers

// Python's round: halves go to the even neighbour.
function rounded(number) {
  const below = Math.floor(number), rest = number - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

// Opaque RGBA levels -> one plane of grey (ITU-R 601), or three of colour.
function planesOf({ width, height, data }, colour) {
  const count = width * height;
  const planes = [];
  for (let channel = 0; channel < (colour ? 3 : 1); channel += 1) planes.push({ width, height, levels: new Uint8Array(count) });
  for (let place = 0, at = 0; place < count; place += 1, at += 4) {
    const red = data[at], green = data[at + 1], blue = data[at + 2];
    if (colour) {
      planes[0].levels[place] = red;
      planes[1].levels[place] = green;
      planes[2].levels[place] = blue;
    } else planes[0].levels[place] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return planes;
}

// The mean of each block of `across` x `down` pixels within a box; blocks at the right and lower edge may be smaller.
function reduced({ width, levels }, across, down, [left, top, right, bottom]) {
  const columns = Math.ceil((right - left) / across), rows = Math.ceil((bottom - top) / down);
  const found = new Uint8Array(columns * rows);
  const sums = new Uint32Array(columns);
  for (let row = 0; row < rows; row += 1) {
    const from = top + row * down, to = Math.min(bottom, from + down);
    sums.fill(0);
    for (let y = from; y < to; y += 1) {
      for (let column = 0, x = left; column < columns; column += 1) {
        const end = Math.min(right, x + across);
        let sum = 0;
        for (; x < end; x += 1) sum += levels[y * width + x];
        sums[column] += sum;
      }
    }
    for (let column = 0; column < columns; column += 1) {
      const pixels = (Math.min(right, left + (column + 1) * across) - left - column * across) * (to - from);
      const whole = pixels === across * down;
      const mean = whole
        ? Math.floor(((sums[column] + (pixels >> 1)) * Math.floor(2 ** 24 / pixels)) / 2 ** 24)
        : Math.floor(sums[column] / pixels + 0.5);
      found[row * columns + column] = mean;
    }
  }
  return { width: columns, height: rows, levels: found };
}

// For each of `size` new pixels along one axis, the old ones from `first` on with their weights: a triangle that is as wide
// as the reduction.
function weightsOf(length, start, end, size) {
  [start, end] = [Math.fround(start), Math.fround(end)];
  const scale = Math.fround(end - start) / size, support = Math.max(1, scale);
  const most = 2 * Math.ceil(support) + 1;
  const first = new Int32Array(size), counts = new Int32Array(size), weights = new Int32Array(size * most);
  for (let place = 0; place < size; place += 1) {
    const centre = start + (place + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5)), to = Math.min(length, Math.trunc(centre + support + 0.5));
    const raw = [];
    for (let x = from; x < to; x += 1) raw.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    const sum = raw.reduce((one, other) => one + other, 0);
    raw.forEach((weight, index) => { weights[place * most + index] = Math.trunc(0.5 + (weight / sum) * 2 ** PRECISION); });
    [first[place], counts[place]] = [from, to - from];
  }
  return { first, counts, weights, most };
}

const HALF = 1 << (PRECISION - 1);

function acrossTo({ width, height, levels }, size, start, end) {
  const { first, counts, weights, most } = weightsOf(width, start, end, size);
  const found = new Uint8Array(size * height);
  for (let y = 0; y < height; y += 1) {
    for (let place = 0; place < size; place += 1) {
      let sum = HALF;
      const from = y * width + first[place], of = place * most;
      for (let index = 0; index < counts[place]; index += 1) sum += levels[from + index] * weights[of + index];
      found[y * size + place] = sum >> PRECISION;
    }
  }
  return { width: size, height, levels: found };
}

function downTo({ width, height, levels }, size, start, end) {
  const { first, counts, weights, most } = weightsOf(height, start, end, size);
  const found = new Uint8Array(width * size), sums = new Int32Array(width);
  for (let place = 0; place < size; place += 1) {
    sums.fill(HALF);
    for (let index = 0; index < counts[place]; index += 1) {
      const weight = weights[place * most + index], from = (first[place] + index) * width;
      for (let x = 0; x < width; x += 1) sums[x] += levels[from + x] * weight;
    }
    for (let x = 0; x < width; x += 1) found[place * width + x] = sums[x] >> PRECISION;
  }
  return { width, height: size, levels: found };
}

// Pillow's resize with BILINEAR, a box, and reducing_gap.
function resized(plane, [across, down], [left, top, right, bottom]) {
  const byX = Math.max(1, Math.trunc((right - left) / across / GAP)), byY = Math.max(1, Math.trunc((bottom - top) / down / GAP));
  if (byX > 1 || byY > 1) {
    const besideX = (0.5 * (right - left)) / across, besideY = (0.5 * (bottom - top)) / down;
    const safe = [
      Math.max(0, Math.trunc(left - besideX)), Math.max(0, Math.trunc(top - besideY)),
      Math.min(plane.width, Math.ceil(right + besideX)), Math.min(plane.height, Math.ceil(bottom + besideY)),
    ];
    plane = reduced(plane, byX, byY, safe);
    [left, right] = [(left - safe[0]) / byX, (right - safe[0]) / byX];
    [top, bottom] = [(top - safe[1]) / byY, (bottom - safe[1]) / byY];
  }
  if (across !== plane.width || left || right !== across) plane = acrossTo(plane, across, left, right);
  if (down !== plane.height || top || bottom !== down) plane = downTo(plane, down, top, bottom);
  return plane;
}

// The size that a picture gets, and the part of it that is taken.
function fitted({ width, height }, canvas) {
  const scales = [canvas.width / width, canvas.height / height];
  if (canvas.fit === "letterbox") {
    const factor = Math.min(...scales);
    return { size: [width, height].map((side) => Math.max(1, rounded(side * factor))), box: [0, 0, width, height] };
  }
  let box = [0, 0, width, height];
  if (canvas.fit === "crop") {
    const factor = Math.max(...scales);
    const inner = [Math.min(width, canvas.width / factor), Math.min(height, canvas.height / factor)];
    const left = (width - inner[0]) / 2, top = (height - inner[1]) / 2;
    box = [left, top, left + inner[0], top + inner[1]];
  }
  return { size: [canvas.width, canvas.height], box };
}

// In the middle of the canvas, on the mean of the two edges that the bars continue.
function padded(plane, canvas) {
  const { width, height, levels } = plane;
  if (width === canvas.width && height === canvas.height) return plane;
  let sum = 0, count = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const times = width < canvas.width ? (x === 0) + (x === width - 1) : (y === 0) + (y === height - 1);
      sum += times * levels[y * width + x];
      count += times;
    }
  }
  const found = new Uint8Array(canvas.width * canvas.height).fill(rounded(sum / count));
  const left = Math.floor((canvas.width - width) / 2), top = Math.floor((canvas.height - height) / 2);
  for (let y = 0; y < height; y += 1) found.set(levels.subarray(y * width, (y + 1) * width), (top + y) * canvas.width + left);
  return { width: canvas.width, height: canvas.height, levels: found };
}

// A decoded picture -> the net's input: (channels, height, width) levels in one array.
// `jpeg`: Pillow decodes a large JPEG at 1/2, 1/4 or 1/8 of its size; the mean of as many pixels comes close to that.
function pixelsOf(image, canvas, jpeg = false) {
  const longest = Math.max(canvas.width, canvas.height);
  const times = jpeg ? [8, 4, 2].find((each) => Math.min(Math.floor(image.width / longest), Math.floor(image.height / longest)) >= each) : 1;
  const planes = planesOf(image, canvas.colour).map((plane) => {
    if (times > 1) plane = reduced(plane, times, times, [0, 0, plane.width, plane.height]);
    const { size, box } = fitted(plane, canvas);
    return padded(resized(plane, size, box), canvas);
  });
  const found = new Uint8Array(planes.length * canvas.width * canvas.height);
  planes.forEach(({ levels }, channel) => found.set(levels, channel * levels.length));
  return found;
}

// A file -> its pixels as they are stored: upright, without a colour profile's changes, what is transparent on white.
async function decoded(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const sheet = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  sheet.fillStyle = "white";
  sheet.fillRect(0, 0, bitmap.width, bitmap.height);
  sheet.drawImage(bitmap, 0, 0);
  bitmap.close();
  return sheet.getImageData(0, 0, sheet.canvas.width, sheet.canvas.height);
}

async function isJpeg(file) {
  const [one, two, three] = new Uint8Array(await file.slice(0, 3).arrayBuffer());
  return one === 0xff && two === 0xd8 && three === 0xff;
}

async function pixelsOfFile(file, canvas) {
  return pixelsOf(await decoded(file), canvas, await isJpeg(file));
}

// Levels as in a mirror.
function mirrorImage(levels, { width }) {
  const found = levels.slice();
  for (let row = 0; row < found.length; row += width) found.subarray(row, row + width).reverse();
  return found;
}
