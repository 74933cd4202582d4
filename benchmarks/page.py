"""The page of an export in headless Chromium: how soon it gives a result, how fast it is, if it agrees with PyTorch.

    python benchmarks/page.py RUN [--openings 5] [--base]

RUN has an export with a page (`gfnet export --page`). It is opened several times. A frame is a box of 384 x 384 pixels
of a webcam, made into the net's input and classified. On Linux the browser's processor time is measured, too, which
other jobs do not lengthen much. All pictures of validation and of unseen are classified in the page and by PyTorch.
`--base` measures a frame of the base net, too, with random weights.
"""

import argparse
import base64
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import sync_playwright

from gfnet_pl import GFNet
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.export.check import Reference
from gfnet_pl.export.graph import OPSET, OUTPUTS, Exported, write_onnx
from gfnet_pl.export.page import render
from gfnet_pl.export.runtime import TorchRuntime, channels_first, run_all
from gfnet_pl.export.vectors import Vectors
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.export import FORMAT, Description
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import machine
from gfnet_pl.run.result_files import read_calibration

FRAMES = """async ([canvas, frames]) => {
  const image = new ImageData(384, 384);
  image.data.forEach((_, place) => { image.data[place] = (place * 7919) % 251; });
  const made = [], all = [];
  for (let frame = 0; frame < frames; frame += 1) {
    const began = performance.now();
    const levels = gfnet.pixelsOf(image, canvas);
    made.push(performance.now() - began);
    await gfnet.run(levels);
    all.push(performance.now() - began);
  }
  return [made, all];
}"""
LOGITS = """async ([pictures, size]) => {
  const bytes = Uint8Array.from(atob(pictures), (letter) => letter.charCodeAt(0)), found = [];
  for (let from = 0; from < bytes.length; from += size) {
    found.push([...(await gfnet.run(bytes.subarray(from, from + size))).logits]);
  }
  return found;
}"""
AT_ONCE = 64


def processor_time():
    """Seconds that the processes below this one have used; 0 where the system does not say."""
    parents, used = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = file.read_text().rpartition(")")[2].split()
            parents[int(file.parent.name)] = int(fields[1])
            used[int(file.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    below = {os.getpid()}
    for _ in range(6):  # generations
        below |= {process for process, parent in parents.items() if parent in below}
    return sum(used.get(process, 0.0) for process in below - {os.getpid()})


def opened(browser, file):
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(300_000)
    began = processor_time()
    page.goto(file.absolute().as_uri())
    page.locator("body[data-ready]").wait_for()
    return page, float(page.locator("body").get_attribute("data-ready")) / 1000, processor_time() - began


def speed(name, page, canvas, frames=60):
    page.evaluate(FRAMES, [canvas, 20])  # by then, what is used much has been compiled for speed
    began = processor_time()
    made, every = (float(np.median(times)) for times in page.evaluate(FRAMES, [canvas, frames]))
    used = 1000 * (processor_time() - began) / frames
    print(f"{name}: {every:.1f} ms per frame, {used:.1f} of processor time; {made:.1f} to make the input")


def base_page(folder):
    net = GFNet(num_classes=28).eval()
    module, images = Exported(net, Calibration()), np.zeros((1, *net.image_size), np.uint8)
    facts = dict.fromkeys(("version", "commit", "run", "checkpoint_sha256", "weights_sha256", "input", "source"), "")
    facts |= {"classes": [str(number) for number in range(28)], "preparation": [], "synthetic": False, "calibrated": ""}
    facts |= {"canvas": {"height": 96, "width": 96, "colour": False, "fit": "stretch"}, "temperature": 1.0}
    facts |= {"thresholds": [], "new_groups": 0, "familiar_within": None, "accuracy": {}}
    described = Description(format=FORMAT, opset=OPSET, outputs=OUTPUTS, **facts)
    write_onnx(folder / "model.onnx", module, described)
    vectors = Vectors(["a"], [b""], np.zeros(1, int), images, run_all(TorchRuntime(module), images))
    file = folder / "index.html"
    file.write_text(render(described, (folder / "model.onnx").read_bytes(), vectors), encoding="utf-8")
    return file, described.canvas


def compare(page, run):
    checkpoint = Checkpoint.load(run.checkpoint_to_test())
    reference = Reference.of(checkpoint, read_calibration(checkpoint.path) or Calibration(), None)
    for name, each in reference.sets.items():
        pixels = channels_first(reference.images[each.rows])
        given = []
        for start in range(0, len(pixels), AT_ONCE):
            part = base64.b64encode(pixels[start : start + AT_ONCE].tobytes()).decode()
            given += page.evaluate(LOGITS, [part, pixels[0].size])
        wanted = reference.outputs[name].logits
        changed = (np.argmax(given, 1) != wanted.argmax(1)).sum()
        off = np.abs(np.array(given) - wanted).max()
        print(f"{name}: {changed} of {len(wanted):,} pictures have another class; logits differ by {off:.1g} at most")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--openings", type=int, default=5)
    parser.add_argument("--base", action="store_true")
    values = parser.parse_args()
    run = RunFolder(values.run)
    torch.set_num_threads(1)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        print(f"{machine()}, Chromium {browser.version}; the page has {run.export.page.stat().st_size / 1e6:.1f} MB")
        times = []
        for _ in range(values.openings):
            page, *seconds = opened(browser, run.export.page)
            times.append(seconds)
        wall, used = np.median(times, 0)
        print(f"first result after opening: median {wall:.2f} s, {used:.2f} s of processor time on all cores")
        speed(run.name, page, Checkpoint.load(run.checkpoint_to_test()).canvas._asdict())
        if values.base:
            file, canvas = base_page(Path(folder))
            of_base, *_ = opened(browser, file)
            speed(f"base net, {file.stat().st_size / 1e6:.0f} MB", of_base, canvas, 20)
        compare(page, run)
        browser.close()


if __name__ == "__main__":
    main()
