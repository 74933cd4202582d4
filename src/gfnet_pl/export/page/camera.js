// The webcam: a mirrored view, as people know it from mirrors, with a box; the net gets the box's pixels unmirrored.
// The whole scene is mirrored by its style, so places in it are places in the camera's picture, and only the pointer is not.

const LEAST = 0.15; // of the picture's height
const NO_CAMERA = {
  NotAllowedError: "The webcam was refused. Allow it beside the browser's address bar and start it again. Pictures work without it.",
  NotFoundError: "No webcam was found. Pictures work without one.",
  NotReadableError: "The webcam does not start: perhaps another program uses it.",
};

// The part of the picture that the net sees: its middle and its height, in shares of the picture's width and height.
const place = { x: 0.5, y: 0.5, height: 0.8 };
let stream = null;
const HINT = byId("speed").textContent;

const video = byId("video"), box = byId("box"), scene = byId("scene");
const sheet = typeof OffscreenCanvas === "undefined" ? null : new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

// The box in pixels of the camera's picture, whole ones, within it.
function boxPixels() {
  const { videoWidth: across, videoHeight: down } = video;
  const shape = described.canvas.width / described.canvas.height;
  const height = Math.max(1, Math.round(Math.min(place.height * down, across / shape, down)));
  const width = Math.max(1, Math.round(height * shape));
  const left = Math.min(Math.max(0, Math.round(place.x * across - width / 2)), across - width);
  const top = Math.min(Math.max(0, Math.round(place.y * down - height / 2)), down - height);
  return { left, top, width, height };
}

function setBox(x, y, height) {
  Object.assign(place, { x, y, height: Math.min(1, Math.max(LEAST, height)) });
  const { left, top, width, height: tall } = boxPixels();
  const { videoWidth: across, videoHeight: down } = video;
  Object.assign(place, { x: (left + width / 2) / across, y: (top + tall / 2) / down, height: tall / down });
  Object.assign(box.style, {
    left: `${(100 * left) / across}%`, top: `${(100 * top) / down}%`, width: `${(100 * width) / across}%`, height: `${(100 * tall) / down}%`,
  });
}

// Dragging the box moves it, dragging its corner resizes it about its middle.
box.addEventListener("pointerdown", (down) => {
  const resizes = down.target === byId("corner");
  const from = { ...place }, { width, height } = scene.getBoundingClientRect();
  box.setPointerCapture(down.pointerId);
  const moved = (event) => {
    const x = -(event.clientX - down.clientX) / width, y = (event.clientY - down.clientY) / height; // mirrored
    if (resizes) setBox(from.x, from.y, from.height + 2 * Math.max(y, (x * width) / height));
    else setBox(from.x + x, from.y + y, from.height);
  };
  const ended = () => ["pointermove", "pointerup", "pointercancel"].forEach((name) => box.removeEventListener(name, name === "pointermove" ? moved : ended));
  box.addEventListener("pointermove", moved);
  box.addEventListener("pointerup", ended);
  box.addEventListener("pointercancel", ended);
  down.preventDefault();
  box.focus({ preventScroll: true });
});
box.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.1 : 0.02;
  const moves = { ArrowLeft: [step, 0, 0], ArrowRight: [-step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0], "+": [0, 0, step], "=": [0, 0, step], "-": [0, 0, -step] };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  setBox(place.x + move[0], place.y + move[1], place.height + 2 * move[2]);
});

const nextFrame = () => new Promise((resolve) => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(resolve) : requestAnimationFrame(resolve)));

async function startCamera() {
  trouble("");
  if (!navigator.mediaDevices?.getUserMedia) {
    trouble("This browser gives the page no webcam. It does if the page is opened as a file, or over https. Pictures work without it.");
    return;
  }
  byId("webcam").disabled = true; // until it has started or not
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" } });
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      stopCamera();
      trouble("The webcam stopped. Start it again, or check whether it is still connected.");
    });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    trouble(NO_CAMERA[error.name] ?? `The webcam does not start (${error.message}).`);
    return;
  } finally {
    byId("webcam").disabled = false;
  }
  scene.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  scene.style[video.videoWidth / video.videoHeight > 4 / 3 ? "width" : "height"] = "100%";
  scene.hidden = false;
  for (const name of ["hint", "picture"]) byId(name).hidden = true;
  for (const each of byId("shelf").children) each.setAttribute("aria-pressed", "false");
  byId("webcam").textContent = "Stop the webcam";
  if (byId("writing")) byId("writing").hidden = false;
  setBox(place.x, place.y, place.height);
  if (matchMedia("(max-width: 46rem)").matches) byId("input").scrollIntoView(); // so that a phone shows what it says, too
  watch(stream).catch((error) => {
    stopCamera();
    trouble(`The net stopped (${error.message}). Open the page again.`);
  });
}

// Frame after frame, as fast as the net is; frames that come meanwhile are left out.
async function watch(mine) {
  const times = [], starts = [];
  while (stream === mine) {
    await nextFrame();
    if (stream !== mine) return;
    const began = performance.now();
    const { left, top, width, height } = boxPixels();
    if (sheet.canvas.width !== width || sheet.canvas.height !== height) Object.assign(sheet.canvas, { width, height });
    sheet.drawImage(video, left, top, width, height, 0, 0, width, height);
    const levels = pixelsOf(sheet.getImageData(0, 0, width, height), described.canvas);
    const outputs = await see(levels, true);
    if (stream !== mine) return;
    const verdict = present(levels, outputs, "webcam", true);
    box.classList.toggle("sure", verdict.accepted === true);
    typed(verdict, began);
    times.push(performance.now() - began);
    starts.push(began);
    if (times.length > 30) [times, starts].forEach((list) => list.shift());
    if (starts.length > 1) {
      const middle = [...times].sort((one, other) => one - other)[times.length >> 1];
      const rate = (1000 * (starts.length - 1)) / (starts.at(-1) - starts[0]);
      byId("speed").textContent = `${middle.toFixed(0)} ms per frame, ${rate.toFixed(0)} frames per second`;
    }
  }
}

function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = video.srcObject = null;
  scene.hidden = true;
  byId("hint").hidden = false;
  byId("webcam").textContent = "Start the webcam";
  byId("speed").textContent = HINT;
}

byId("webcam").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
addEventListener("pagehide", stopCamera);
