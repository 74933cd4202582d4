"""What the data engine costs: building the cache, start-up, batches and memory, compared with Pillow and plain PyTorch.

    OMP_NUM_THREADS=1 python benchmarks/data_engine.py             # all, about 15 minutes on 2 cores
    OMP_NUM_THREADS=1 python benchmarks/data_engine.py build batch

The pictures are hand signs from the embedded data set, enlarged, with noise: many separate files, with a few hundred
different contents. What is compared runs alternately in one process. A figure is the median of the repeats. A ratio is
the median of the ratios of neighbouring measurements, so that another program on the same cores disturbs it less.
"""

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import read_all
from gfnet_pl.hand_signs.files import hand_signs_root

SIZE = (96, 96)
BATCH = 512
KINDS = {"JPEG 400 px": (400, "JPEG"), "JPEG 200 px": (200, "JPEG"), "PNG 96 px": (96, "PNG")}


def write_pictures(folder: Path, side: int, kind: str, count: int, contents: int = 400) -> list[str]:
    """Writes `count` separate files below `folder`, 5,000 per subfolder, and returns their names."""
    sources = sorted(hand_signs_root().glob("Train/*/*.png"))
    rng = np.random.default_rng(0)
    encoded = []
    for source in sources[:: max(1, len(sources) // contents)][:contents]:
        with Image.open(source) as image:
            large = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BICUBIC), np.float32)
        if kind == "JPEG":
            large = np.stack([large] * 3, -1) + rng.normal(0, 4, (side, side, 3))
        file = io.BytesIO()
        Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(file, kind)
        encoded.append(file.getvalue())
    names = []
    for number in range(count):
        names.append(f"{number // 5000:02}/{number:06}.{kind.lower()}")
        if number % 5000 == 0:
            (folder / names[-1]).parent.mkdir(parents=True)
        (folder / names[-1]).write_bytes(encoded[number % len(encoded)])
    return names


def pillow_alone(paths: Sequence[str]) -> float:
    """Reads the pictures with as little work as possible; returns seconds of processor time."""
    start = time.process_time()
    for path in paths:
        with Image.open(path) as image:
            image.draft("L", SIZE[::-1])
            grey = image.convert("L")
            if grey.size != SIZE[::-1]:
                grey.resize(SIZE[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    return time.process_time() - start


def processor() -> float:
    """Processor seconds of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """What most projects use: the file is opened each time an image is needed."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            grey = image.convert("L").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(grey)).unsqueeze(0), 0


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def build(work: Path, repeats: int, scale: float) -> None:
    """Measures how fast a cache is built.

    The ratio of processor times includes the start of the children. It is what the ratio of wall times would be if no
    other program were running.
    """
    print("\n### Building\n")
    print("| pictures | Pillow alone, 2 processes | decoding | ratio | ratio, processor time | whole build | ratio |")
    print("|---|---|---|---|---|---|---|")
    with get_context("spawn").Pool(2) as pool:
        pool.map(pillow_alone, [[], []])
        for title, (side, kind) in KINDS.items():
            folder = work / f"{kind}{side}"
            count = int(scale * {400: 8_000, 200: 16_000, 96: 30_000}[side])
            names = write_pictures(folder, side, kind, count)
            paths = [str(folder / name) for name in names]
            pool.map(pillow_alone, [paths[::2], paths[1::2]], 1)  # from here on the files are in the page cache
            times, ratios = [], []
            for _ in range(repeats):
                start = time.perf_counter()
                alone_used = sum(pool.map(pillow_alone, [paths[::2], paths[1::2]], 1))
                alone = time.perf_counter() - start
                used = processor()
                decoding = seconds(partial(read_all, [Path(path) for path in paths], Canvas(*SIZE)))
                used = processor() - used
                with tempfile.TemporaryDirectory(dir=work) as home:
                    whole = seconds(partial(cached_images, folder, names, Canvas(*SIZE), home=Path(home)))
                times.append((alone, decoding, whole))
                ratios.append((alone / decoding, alone_used / used, alone / whole))
            rate = [count / statistics.median(column) for column in zip(*times, strict=True)]
            ratio = [statistics.median(column) for column in zip(*ratios, strict=True)]
            print(
                f"| {count:,} {title} | {rate[0]:,.0f}/s | {rate[1]:,.0f}/s | {ratio[0]:.2f} | {ratio[1]:.2f} "
                f"| {rate[2]:,.0f}/s | {ratio[2]:.2f} |",
                flush=True,
            )
            shutil.rmtree(folder)


def batch(work: Path, repeats: int, scale: float) -> None:
    print("\n### A batch of 512 random images\n")
    count = int(scale * 20_000)
    names = write_pictures(work / "batch", 200, "JPEG", count)
    paths = [str(work / "batch" / name) for name in names]
    cached = cached_images(work / "batch", names, Canvas(*SIZE), home=work / "home")
    rng = np.random.default_rng(0)
    plain = PlainDataset(paths)

    def from_map() -> float:
        wanted = rng.integers(0, count, BATCH)
        return seconds(lambda: cached.images[cached.rows[wanted]])

    def from_files(workers: int, batches: int = 16) -> float:
        """Seconds per batch in an epoch of `batches`, including the start of the workers."""
        order = rng.permutation(count)[: batches * BATCH].tolist()
        loader = DataLoader(plain, BATCH, sampler=order, num_workers=workers)
        return seconds(lambda: [None for _ in loader]) / len(loader)

    from_map()
    times = [(statistics.median(from_map() for _ in range(20)), from_files(0), from_files(2)) for _ in range(repeats)]
    mapped, none, two = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    print("| from the map | Dataset that opens files, 0 workers | 2 workers |")
    print("|---|---|---|")
    print(f"| {mapped:.2f} ms | {none:.0f} ms ({none / mapped:,.0f} x) | {two:.0f} ms ({two / mapped:,.0f} x) |")
    shutil.rmtree(work / "batch")


START = """
import sys, time
from gfnet_pl.data.datamodule import ImageDataModule
def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
data = ImageDataModule(sys.argv[1], seed=1)
before, start = anonymous(), time.perf_counter()
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
next(iter(loader))
started = time.perf_counter() - start
start = time.perf_counter()
images = sum(len(batch.labels) for batch in loader)
print(started, images / (time.perf_counter() - start), anonymous() - before)
"""


def start_up(work: Path, repeats: int, scale: float) -> None:
    """The data module as `fit` uses it, each time in a new process; imports are not counted."""
    print("\n### Start-up to the first batch, and an epoch of batches of 512 without a model\n")
    print("| pictures | build | start-up | images/s | anonymous memory |")
    print("|---|---|---|---|---|")
    memory = {}
    environment = os.environ | {"XDG_CACHE_HOME": str(work / "home")}
    for count in (int(scale * 10_000), int(scale * 165_670)):
        folder = work / f"many{count}"
        write_pictures(folder, 96, "PNG", count)
        found = []
        building = 0.0
        for turn in range(repeats + 1):
            begun = time.perf_counter()
            command = [sys.executable, "-c", START, str(folder)]
            told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
            if turn:
                found.append([float(word) for word in told.splitlines()[-1].split()])
            else:
                building = time.perf_counter() - begun
        started, rate, memory[count] = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {count:,} | {building:.1f} s | {started:.2f} s | {rate:,.0f} | {memory[count] / 1024:.0f} MiB |")
    few, many = memory
    growth = 1024 * (memory[many] - memory[few]) / (many - few)
    print(f"\nAnonymous memory grows by {growth:.0f} bytes per picture; its pixels take {SIZE[0] * SIZE[1]:,}.")


PARTS = {"build": build, "batch": batch, "start": start_up}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], metavar="PART", help="build, batch, start (default: all)"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of pictures (default: 1)")
    parser.add_argument("--work", type=Path, help="folder for the pictures (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        for part in args.parts or PARTS:
            PARTS[part](Path(work), args.repeats, args.scale)


if __name__ == "__main__":
    main()
