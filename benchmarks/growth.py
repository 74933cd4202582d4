"""How the cost of a training step grows with batch, depth and resolution, and that of an epoch's batches with the data.

    python benchmarks/growth.py --write docs/performance.md --plot docs/growth.svg     # 2 minutes

Forward, backward, clipping and AdamW in bf16, as in `gfnet fit`: the median of the rounds, and the peak of resident
memory minus the memory in use before. "Data" is what a net waits for: the order of an epoch and its batches of 512 from
the cache, without a net; its memory is the peak of NumPy's arrays. An exponent is the slope of log y over log x by
least squares, over the larger half of the values.
"""

import argparse
import statistics
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from measuring import Step, markdown, number, seconds, write_between
from scaling import exponent

from gfnet_pl import GFNet
from gfnet_pl.data.batches import ImageArray, ResumableLoader
from gfnet_pl.data.order import EpochOrder


@dataclass
class Series:
    """One varied quantity: its values, and the seconds and bytes for each."""

    values: Sequence[int]
    times: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def rows(self, name: str) -> list[list[str]]:
        time, memory = exponent(self.values, self.times), exponent(self.values, self.memory)
        each = zip(self.values, self.times, self.memory, strict=True)
        cells = [[name, f"{value:,}", number(1000 * took), number(held / 1e6)] for value, took, held in each]
        return [*cells, [name, "exponent", f"{time:.2f}", f"{memory:.2f}"]]


def steps(values: Sequence[int], make: Callable[[int], Step], rounds: int) -> Series:
    """Steps of different sizes, measured alternately."""
    found = Series(values)
    jobs = [make(value) for value in values]
    for job in jobs:
        seconds(job)
        seconds(job, watch=True)
        found.memory.append(max(1, job.memory))
    times = [[seconds(job) for job in jobs] for _ in range(rounds)]
    found.times = [statistics.median(each) for each in zip(*times, strict=True)]
    return found


def data(values: Sequence[int], rounds: int) -> Series:
    """An epoch's batches, from a file that is as large as the decoded pictures would be."""
    found = Series(values)
    for images in values:
        labels = np.arange(images) % 28

        def epoch(images: int = images, labels: np.ndarray = labels) -> None:
            with tempfile.NamedTemporaryFile() as file:
                pixels = np.memmap(file.name, np.uint8, "w+", shape=(images, 96, 96))
                order = EpochOrder(labels, seed=1, batch_size=512)
                loader = ResumableLoader(ImageArray(pixels, np.arange(images), labels), sampler=order, batch_size=None)
                for batch in loader:
                    batch.images.sum()

        found.times.append(statistics.median(seconds(epoch) for _ in range(rounds)))
        tracemalloc.start()  # counts NumPy's arrays
        epoch()
        found.memory.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return found


def plot(series: dict[str, Series], path: Path) -> None:
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    for axes, (name, each) in zip(figure.subplots(1, len(series)), series.items(), strict=True):
        relative = [value / each.values[0] for value in each.values]
        power = exponent(each.values, each.times)
        axes.loglog(each.values, [t / each.times[0] for t in each.times], ".-", label=f"time, exponent {power:.2f}")
        power = exponent(each.values, each.memory)
        axes.loglog(each.values, [m / each.memory[0] for m in each.memory], ".--", label=f"memory, {power:.2f}")
        axes.loglog(each.values, relative, color="0.8", linewidth=1, zorder=0)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xticks(each.values, [f"{value / 1000:g}k" if value >= 1000 else str(value) for value in each.values])
        axes.tick_params(axis="x", labelsize=7)
        axes.minorticks_off()
        axes.tick_params(axis="y", labelsize=7)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256, 512])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 144, 192, 288, 384])
    parser.add_argument("--data", type=int, nargs="+", default=[2_000, 8_000, 32_000, 128_000, 223_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="write the table into this document, between its markers")
    parser.add_argument("--plot", type=Path, help="write the picture to this file")
    options = parser.parse_args(args)

    torch.manual_seed(0)

    def step(batch_size: int = 8, depth: int = options.depth, side: int = 96) -> Step:
        return Step(GFNet(dim=options.dim, depth=depth, image_size=side), batch_size, bf16=True, side=side)

    series = {
        f"batch, {options.depth} blocks": steps(options.batches, lambda value: step(batch_size=value), options.rounds),
        "blocks, batch 8": steps(options.depths, lambda value: step(depth=value), options.rounds),
        "pixels per side, batch 8": steps(options.sides, lambda value: step(side=value), options.rounds),
        "images per epoch (data)": data(options.data, options.rounds),
    }
    rows = [row for name, each in series.items() for row in each.rows(name)]
    text = f"{options.dim} channels.\n\n{markdown(['varied', 'value', 'ms', 'memory, MB'], rows)}"
    print(text)
    if options.write:
        write_between(options.write, "growth", text)
    if options.plot:
        plot(series, options.plot)


if __name__ == "__main__":
    main()
