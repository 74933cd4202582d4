"""How time and memory of one token mixer grow with the map: forward and backward, 12 x 12 to 128 x 128 tokens.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --plot docs/scaling.svg     # 2 minutes

    filter, matrices           `GlobalFilter` as products with fixed real matrices, regardless of `MATRIX_MAX_TOKENS`
    filter, FFT                the same filter by rfft2
    attention                  softmax attention, 64 channels per head, torch's own kernel, with its q, k, v and output
                               projections: what the filter replaces in a block
    attention, no projections  the same kernel alone, with q, k and v as inputs
    attention, scores stored   with projections, and the N x N scores stored: attention without the blockwise kernel
    convolution 3 x 3, 7 x 7   depthwise, channels last

Inputs and outputs are tokens (B, N, C), float32. With one image, the fixed cost of a call affects the figures of small
maps; `--batch-size` spreads it over more images, as training does.

Time is that of a forward and a backward pass, with gradients of the input and all parameters: the median of the
repeats, ± the largest deviation from it. The mixers run alternately, each after a warm-up. A fast mixer runs several
passes per turn, so that a turn takes 20 ms or more. With one thread it is processor time: it excludes the time that
another program takes on the core, but not the effect of that program on the processor's cache.

Memory is counted, not sampled: it is exact, and the same in every run. *Kept* is what autograd holds between forward
and backward: distinct storages, without parameters and buffers. *Peak* is the layer's parameters and buffers, its
input, the gradient of its output, and the most that torch's allocator had in use at one moment of the two passes.
Neither includes what MKL and oneDNN allocate themselves. (Lines that begin with USDT come from torch's profiler, which
does the counting.)

An exponent is the slope of log y over log N by least squares, over the larger half of a mixer's maps. The mixer whose
memory grows as N^2 is measured up to 64 x 64.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from measuring import markdown, number
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.profiler import profile
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import convert_conv2d_weight_memory_format

from gfnet_pl.model import global_filter

HEAD_DIM = 64
TURN_SECONDS = 0.02
QUADRATIC_MAX_SIDE = 64


class AttentionCore(nn.Module):
    """Queries, keys and values side by side (B, N, 3C) -> (B, N, C)."""

    def __init__(self, dim: int, backends: Sequence[SDPBackend]) -> None:
        super().__init__()
        self.heads = max(1, dim // HEAD_DIM)
        self.backends = list(backends)

    def forward(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.reshape(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads) each
        with sdpa_kernel(self.backends):
            mixed = F.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, dim: int, backends: Sequence[SDPBackend]) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.core = AttentionCore(dim, backends)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(self.core(self.qkv(x)))
        return y


class DepthwiseConvolution(nn.Module):
    def __init__(self, dim: int, side: int, kernel_size: int) -> None:
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        convert_conv2d_weight_memory_format(self.conv, torch.channels_last)  # the tokens' own order: no copies

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.transpose(1, 2).reshape(*x.shape[::2], self.side, self.side))
        return y.flatten(2).transpose(1, 2)


def build_filter(dim: int, side: int, max_tokens: float) -> nn.Module:
    with patch.object(global_filter, "MATRIX_MAX_TOKENS", max_tokens):
        return global_filter.GlobalFilter(dim, (side, side))


@dataclass(frozen=True)
class Mixer:
    build: Callable[[int, int], nn.Module]  # arguments: dim and side
    colour: str
    line: str = "-"
    inputs: int = 1  # factor for the C input channels
    quadratic: bool = False


BLOCKWISE, STORED = [SDPBackend.FLASH_ATTENTION], [SDPBackend.MATH]
MIXERS = {
    "filter, matrices": Mixer(partial(build_filter, max_tokens=math.inf), "C0", "--"),
    "filter, FFT": Mixer(partial(build_filter, max_tokens=0), "C0"),
    "attention": Mixer(lambda dim, side: Attention(dim, BLOCKWISE), "C3"),
    "attention, no projections": Mixer(lambda dim, side: AttentionCore(dim, BLOCKWISE), "C3", ":", inputs=3),
    "attention, scores stored": Mixer(lambda dim, side: Attention(dim, STORED), "C3", "--", quadratic=True),
    "convolution 3 x 3": Mixer(partial(DepthwiseConvolution, kernel_size=3), "0.45"),
    "convolution 7 x 7": Mixer(partial(DepthwiseConvolution, kernel_size=7), "0.45", "--"),
}
CROSSINGS = [
    ("filter, matrices", "filter, FFT"),
    ("filter, FFT", "attention"),
    ("filter, FFT", "attention, no projections"),
    ("filter, matrices", "attention"),
    ("filter, FFT", "convolution 3 x 3"),
    ("filter, FFT", "convolution 7 x 7"),
]


class Trial:
    """One mixer on one map."""

    def __init__(self, mixer: Mixer, dim: int, side: int, batch_size: int) -> None:
        self.layer = mixer.build(dim, side)
        self.x = torch.randn(batch_size, side * side, mixer.inputs * dim, requires_grad=True)
        self.gradient = torch.randn(batch_size, side * side, dim)

    def run(self) -> None:
        torch.autograd.grad(self.layer(self.x), [self.x, *self.layer.parameters()], self.gradient)

    def seconds(self, passes: int) -> float:
        """Seconds of one forward and backward pass."""
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        for _ in range(passes):
            self.run()
        return (clock() - start) / passes

    def memory(self) -> tuple[int, int]:
        """Bytes kept by autograd, and peak bytes."""
        own = [*self.layer.parameters(), *self.layer.buffers()]
        known = {tensor.untyped_storage().data_ptr() for tensor in own}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with profile(profile_memory=True) as profiler, saved_tensors_hooks(pack, lambda tensor: tensor):
            self.run()
        events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
        resident = sum(tensor.nbytes for tensor in [*own, self.x, self.gradient])
        return sum(kept.values()), resident + int(np.cumsum(changes).max())


@dataclass
class Measured:
    """A mixer's figures, map by map."""

    tokens: list[int] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)  # the repeats of each map
    kept: list[int] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)

    def medians(self) -> list[float]:
        return [statistics.median(repeats) for repeats in self.seconds]


def measure(sides: Sequence[int], dim: int, batch_size: int, repeats: int) -> dict[str, Measured]:
    found = {name: Measured() for name in MIXERS}
    for side in sides:
        trials, passes = {}, {}
        for name, mixer in MIXERS.items():
            if mixer.quadratic and side > QUADRATIC_MAX_SIDE:
                continue
            trial = trials[name] = Trial(mixer, dim, side, batch_size)
            kept, peak = trial.memory()  # this pass and the next one warm up
            passes[name] = max(1, math.ceil(TURN_SECONDS / trial.seconds(1)))
            found[name].tokens.append(side * side)
            found[name].seconds.append([])
            found[name].kept.append(kept)
            found[name].peak.append(peak)
        for _ in range(repeats):
            for name, trial in trials.items():
                found[name].seconds[-1].append(trial.seconds(passes[name]))
    return found


def exponent(tokens: Sequence[float], values: Sequence[float]) -> float:
    """The p of value = constant * tokens ** p, by least squares over the larger half of the maps, at least two."""
    half = min(len(tokens) // 2, len(tokens) - 2)
    slope, _ = np.polyfit(np.log(tokens[half:]), np.log(values[half:]), 1)
    return float(slope)


def crossings(tokens: Sequence[float], first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Numbers of tokens at which the faster one changes, interpolated between maps by lines in log y over log N."""
    gaps = np.log(first) - np.log(second)
    places = []
    for i in range(len(gaps) - 1):
        if gaps[i] * gaps[i + 1] < 0:
            share = gaps[i] / (gaps[i] - gaps[i + 1])
            places.append(tokens[i] ** (1 - share) * tokens[i + 1] ** share)
    return places


def by_map(title: str, sides: Sequence[int], columns: dict[str, list[str]], exponents: Sequence[float]) -> str:
    rows = [
        [f"{side} x {side}", *(column[i] if i < len(column) else "" for column in columns.values())]
        for i, side in enumerate(sides)
    ]
    return markdown([title, *columns], [*rows, ["exponent", *(f"{power:.2f}" for power in exponents)]])


def duel(found: dict[str, Measured], first: str, second: str) -> list[str]:
    """Which one is faster on the smallest map, where that changes, and which on the largest map that both have."""
    tokens = [n for n in found[first].tokens if n in found[second].tokens]
    times = [found[name].medians()[: len(tokens)] for name in (first, second)]

    def faster(i: int) -> str:
        mine, other = times[0][i], times[1][i]
        name, ratio = (first, other / mine) if mine < other else (second, mine / other)
        return f"{name}, {ratio:.1f} times"

    places = [f"{place:,.0f} ({math.sqrt(place):.0f} x {math.sqrt(place):.0f})" for place in crossings(tokens, *times)]
    last = f"{faster(-1)} at {tokens[-1]:,}"
    return [f"{first} / {second}", faster(0), ", ".join(places) or "nowhere", last]


def report(found: dict[str, Measured], sides: Sequence[int]) -> str:
    """Tables of time, of memory, and of which mixer is faster where, as Markdown."""
    times, memory = {}, {}
    for name, each in found.items():
        times[name] = [
            f"{number(1e3 * median)} ± {100 * max(abs(one / median - 1) for one in repeats):.0f} %"
            for median, repeats in zip(each.medians(), each.seconds, strict=True)
        ]
        memory[name] = [
            f"{number(peak / 1e6)} ({number(kept / 1e6)})" for peak, kept in zip(each.peak, each.kept, strict=True)
        ]
    time_powers = [exponent(each.tokens, each.medians()) for each in found.values()]
    memory_powers = [exponent(each.tokens, each.peak) for each in found.values()]
    return "\n\n".join(
        (
            by_map("ms", sides, times, time_powers),
            by_map("MB, peak (kept)", sides, memory, memory_powers),
            markdown(
                ["faster", f"at {sides[0] ** 2} tokens", "changes at", "on the largest map"],
                [duel(found, first, second) for first, second in CROSSINGS],
            ),
        )
    )


def plot(found: dict[str, Measured], path: Path) -> None:
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    tokens = max((each.tokens for each in found.values()), key=len)
    panels = {
        "time, ms": {name: [1e3 * seconds for seconds in each.medians()] for name, each in found.items()},
        "peak memory, MB": {name: [peak / 1e6 for peak in each.peak] for name, each in found.items()},
    }
    for axes, (title, lines) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for name, values in lines.items():
            style = MIXERS[name]
            axes.loglog(found[name].tokens, values, style.line, color=style.colour, marker=".", label=name)
        ends = [values[-1] for values in lines.values()]
        upper = tokens[len(tokens) // 2 :]
        for label, power, end in (("n", 1, 0.4 * min(ends)), ("n²", 2, 2.5 * max(ends))):
            guide = [end * (n / tokens[-1]) ** power for n in upper]
            axes.loglog(upper, guide, color="0.75", linewidth=1)
            axes.annotate(label, (upper[-1], end), xytext=(4, -3), textcoords="offset points", color="0.5")
        axes.set_title(f"{title}, forward and backward", loc="left", fontsize=10)
        axes.set_xlabel("tokens")
        axes.set_xticks(tokens, [f"{math.isqrt(n)}²" for n in tokens])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[12, 16, 24, 32, 48, 64, 96, 128])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="write both pictures to this file, .svg or .png")
    parser.add_argument("--table", type=Path, help="also write the printed text to this file")
    options = parser.parse_args(args)

    sides = sorted(set(options.sides))
    if len(sides) < 2 or sides[1] > QUADRATIC_MAX_SIDE:
        parser.error(f"--sides: give two or more of at most {QUADRATIC_MAX_SIDE}, so that every mixer has an exponent")

    torch.set_num_threads(options.threads)
    found = measure(sides, options.dim, options.batch_size, options.repeats)
    setting = (
        f"{options.dim} channels, batch {options.batch_size}, {options.threads} thread(s), torch {torch.__version__}"
    )
    text = f"{setting}\n\n{report(found, sides)}\n"
    print(text)
    if options.table is not None:
        options.table.write_text(text, "utf-8")
    if options.plot is not None:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
