"""How fast `gfnet predict` goes through a folder of JPEGs, beside what Pillow alone and the net alone would take.

    python benchmarks/predict.py RUN [--pictures 4000] [--rounds 5]

Drawn hands are written as JPEGs of 200 x 200 pixels. Then, in turn: Pillow decodes them all in a process per core, at
full size and at the reduced scale that it offers; the net runs on them decoded already, on all cores; `gfnet predict`
does both and writes its lines. What else the machine does falls on all alike: the ratios are more reliable than the
times. Processor time is what other jobs lengthen least. `predict` is a new process: it includes the start of Python.
"""

import argparse
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from PIL import Image

from gfnet_pl import Classifier
from gfnet_pl.data.decode import read_all
from gfnet_pl.export.runtime import run_all
from gfnet_pl.hand_signs.files import hand_signs_root
from gfnet_pl.processes import cores

SIDE = 200
MEMORY = []  # peaks, in MB
WATCH = """import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)
sys.exit(status)"""


def whole(path):
    with Image.open(path) as image:
        image.convert("L").load()


def reduced(path):
    with Image.open(path) as image:
        image.draft("L", (96, 96))
        image.load()


def write(folder, count):
    """Drawn hands as colour JPEGs."""
    found = sorted(hand_signs_root().glob("Train/*/*.png"))
    for number in range(count):
        with Image.open(found[number * 7 % len(found)]) as image:
            image.convert("RGB").resize((SIDE, SIDE)).save(folder / f"{number:06}.jpg", quality=90)


def of_children():
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def clocked(read, path):
    began = time.process_time()
    read(path)
    return time.process_time() - began


def by_pillow(read, paths):
    """Seconds by the clock and of the processor, without the start of the processes."""
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        pool.map(reduced, paths[:8], 1)
        began = time.perf_counter()
        spent = sum(pool.map(partial(clocked, read), paths, 100))
        return time.perf_counter() - began, spent


def by_net(classifier, pixels):
    began, busy = time.perf_counter(), time.process_time()
    run_all(classifier.runtime, pixels)
    return time.perf_counter() - began, time.process_time() - busy


def by_predict(run, folder):
    began, busy = time.perf_counter(), of_children()
    command = [sys.executable, "-m", "gfnet_pl", "predict", str(folder), "--ckpt_path", run]
    command += ["--out", str(folder.parent / "rows.csv")]
    done = subprocess.run([sys.executable, "-c", WATCH, *command], stderr=subprocess.PIPE, text=True, check=True)
    MEMORY.append(int(done.stderr.split()[-1]))
    return time.perf_counter() - began, of_children() - busy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    values = parser.parse_args()
    classifier = Classifier.load(values.run)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        folder.mkdir()
        write(folder, values.pictures)
        paths = sorted(folder.iterdir())
        pixels = read_all(paths, classifier.canvas)
        ways = {
            "Pillow, full size": lambda: by_pillow(whole, paths),
            "Pillow, reduced scale": lambda: by_pillow(reduced, paths),
            "the net": lambda: by_net(classifier, pixels),
            "gfnet predict": lambda: by_predict(values.run, folder),
        }
        times, busy = ({name: [] for name in ways} for _ in range(2))
        for _ in range(values.rounds):
            for name, way in ways.items():
                for kept, took in zip((times, busy), way(), strict=True):
                    kept[name].append(took)
    count = len(paths)
    wall, used = ({name: statistics.median(each) / count for name, each in all_.items()} for all_ in (times, busy))
    print(f"{count:,} JPEGs of {SIDE} x {SIDE}, {cores()} cores, by {classifier.file.name}; {values.rounds} rounds\n")
    print("| what | pictures/s | ms of processor time per picture |\n| --- | --- | --- |")
    for name in ways:
        print(f"| {name} | {1 / wall[name]:,.0f} | {1000 * used[name]:.2f} |")
    whole_way = wall["Pillow, reduced scale"] + wall["the net"]
    print(f"\ngfnet predict: {wall['Pillow, full size'] / wall['gfnet predict']:.0%} of what Pillow alone does at full")
    print(f"size, {wall['Pillow, reduced scale'] / wall['gfnet predict']:.0%} at the reduced scale;")
    print(f"{whole_way / wall['gfnet predict']:.0%} of what decoding and the net one after the other would do;")
    spent = used["Pillow, reduced scale"] + used["the net"]
    print(
        f"{used['gfnet predict'] / spent:.2f} times their processor time. Peak memory of a process: {max(MEMORY):,} MB."
    )


if __name__ == "__main__":
    main()
