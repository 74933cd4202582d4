"""The figures of `benchmarks/performance.py` for a GPU, with TF32, compiled nets and pictures cached on the device.

    python benchmarks/gpu.py

    python benchmarks/gpu.py --limit     # the arithmetic of an A100, on any machine, in seconds

It also runs on a CPU, with smaller batches and fewer figures. The nets are measured alternately; a figure is the
median, ± the largest deviation from it. A step is that of `gfnet fit`. Memory is the peak of what torch had allocated
during a step (on a CPU: resident memory).
"""

import argparse
import copy
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from measuring import (
    KINDS,
    Inference,
    Step,
    flops,
    in_turn,
    markdown,
    matmul_rate,
    number,
    precision,
    shares,
    spread,
)
from performance import NAMES, nets
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfnet_pl.data.augment import Augment
from gfnet_pl.data.batches import Batch, ImageArray
from gfnet_pl.data.order import Draw


@contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.conv.fp32_precision
    torch.set_float32_matmul_precision("medium" if tf32 else "highest")
    torch.backends.cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.conv.fp32_precision = before[1]


def table(kind: type[Step], subjects: dict[str, nn.Module], batch_size: int, rounds: int) -> str:
    """Images per second of the nets in float32, TF32 (on a GPU) and bf16."""
    device = next(iter(subjects.values())).pos_embed.device
    # Not those of the compiled net: under the counter, torch.compile would give it up for good.
    operations = {name: flops(net) for name, net in subjects.items() if "compiled" not in name}
    plain = operations["textbook GFNet"]  # a Fourier transform counts as zero operations
    operations |= {"GFNet": plain, "GFNet, compiled": plain, "GFNet, rfft2": plain}
    modes = {"float32": (False, False), "bf16": (True, False)}
    if device.type == "cuda":
        modes = {"float32": (False, False), "TF32": (False, True), "bf16": (True, False)}
    steps, limits = {}, {}
    for mode, (bf16, tf32) in modes.items():
        with matmul_precision(tf32):
            limits[mode] = matmul_rate(torch.bfloat16 if bf16 else torch.float32, device)
        for name, net in subjects.items():
            steps[name, mode] = kind(net, batch_size, bf16=bf16)
    took = {}
    for mode, (_, tf32) in modes.items():  # the precision is set for the process: nets alternate within it
        with matmul_precision(tf32):
            took |= in_turn({key: step for key, step in steps.items() if key[1] == mode}, rounds, warm_up=2)
    rows = []
    for (name, mode), step in steps.items():
        times = took[name, mode]
        rate = batch_size / statistics.median(times)
        counted = operations[name] * (1 if kind is Inference else 3)
        share = f"{100 * rate * counted / limits[mode]:.0f} %"
        memory = f"{step.memory / 1e9:.2f}"
        rows.append([name, mode, f"{number(rate)} ± {100 * spread(times):.0f} %", share, memory])
    return markdown(["net", "precision", "images/s", "share of the matmul rate", "memory, GB"], rows)


def from_cache(net: nn.Module, batch_size: int, rounds: int, images: int) -> str:
    """Steps on augmented batches from the cache in memory and from a copy on the device."""
    device = net.pos_embed.device
    pixels = np.random.default_rng(0).integers(0, 256, (images, 96, 96), dtype=np.uint8)
    labels = np.arange(images) % 28
    augment = Augment(rotation=14.3, scale=0.2, shift=0.075, brightness=0.1, contrast=0.3)
    step = Step(net, batch_size, bf16=True)
    jobs = {}
    for name, where in (("in memory", None), ("on the device", device)):
        data = ImageArray(pixels, np.arange(images), labels, where)

        def run(data: ImageArray = data) -> None:
            drawn = np.random.default_rng(1).integers(0, images, batch_size)
            batch = data[Draw(drawn, drawn)]
            moved = [each if each is None else each.to(device, non_blocking=True) for each in batch]
            step.batch = Batch(augment(moved[0], moved[2]), moved[1])
            step()

        jobs[name] = run
    took = in_turn(jobs, rounds, warm_up=2)
    rows = [[name, number(batch_size / statistics.median(times))] for name, times in took.items()]
    return markdown(["decoded pictures", "images/s with augmentation, bf16"], rows)


def switched(net: nn.Module, batch_size: int, rounds: int) -> str:
    """Training steps in TF32 with cuDNN's search for the fastest convolution, and without what can differ by run."""
    # PyTorch asks for it, and so does Lightning: products on several streams would otherwise share memory.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    step = Step(net, batch_size, bf16=False)
    jobs = {}
    for name, search, deterministic in (
        ("as in `gfnet fit`: cuDNN searches", True, False),
        ("cuDNN does not search", False, False),
        ("`--trainer.deterministic true`", False, True),
    ):

        def run(search: bool = search, deterministic: bool = deterministic) -> None:
            torch.backends.cudnn.benchmark = search
            torch.use_deterministic_algorithms(deterministic)
            step()

        jobs[name] = run
    with matmul_precision(tf32=True):
        took = in_turn(jobs, rounds, warm_up=2)
    torch.use_deterministic_algorithms(False)
    rows = [
        [name, f"{number(batch_size / statistics.median(times))} ± {100 * spread(times):.0f} %"]
        for name, times in took.items()
    ]
    return markdown(["TF32, not compiled", "images/s"], rows)


# Operations and bytes per second, from NVIDIA's data sheet of the 40 GB model.
A100 = {"bf16": 312e12, "TF32": 156e12, "memory": 1.555e12}
SOURCE_STUDY = {"images": 223_000, "epochs": 20}


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, if each reads its tensors from memory and writes them back."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "detach" not in func.name():
            tensors = [each for each in tree_leaves((args, kwargs, out)) if isinstance(each, torch.Tensor)]
            self.bytes += sum(each.nbytes for each in tensors)
        return out


def limit(dim: int, depth: int, batch_size: int = 64) -> str:
    """The least time an A100 needs for the source study's training: by arithmetic, and by eager memory traffic."""
    ours, plain, _ = nets(dim, depth, dropout=0.2)
    operations = 3 * flops(plain)
    net = ours.to("meta").train()  # tensors without data
    images = torch.zeros(batch_size, 1, 96, 96, dtype=torch.uint8, device="meta")
    trained = SOURCE_STUDY["images"] * SOURCE_STUDY["epochs"]
    rows = []
    for mode in ("TF32", "bf16"):
        if mode == "bf16":
            net = net.bfloat16()
        with Traffic() as traffic:
            net(images).float().sum().backward()
        moved = traffic.bytes / batch_size
        minutes = [trained * operations / A100[mode] / 60, trained * moved / A100["memory"] / 60]
        rows.append([mode, f"{operations / 1e9:.2f}", f"{moved / 1e6:.0f}", *(f"{each:.1f}" for each in minutes)])
    header = [
        "precision",
        "GFLOP per image",
        "MB per image",
        "minutes for arithmetic at peak",
        "minutes for memory traffic at peak",
    ]
    return markdown(header, rows)


def main(args: Sequence[str] | None = None) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, nargs=2, default=[256, 12], metavar=("DIM", "DEPTH"))
    parser.add_argument("--batch-size", type=int, default=512 if device == "cuda" else 64)
    parser.add_argument("--rounds", type=int, default=20 if device == "cuda" else 2)
    parser.add_argument("--images", type=int, default=20_000, help="images in the cache")
    parser.add_argument(
        "--backend", default="inductor", help="backend of torch.compile; on a CPU it needs a C++ compiler"
    )
    parser.add_argument("--limit", action="store_true", help="only the arithmetic")
    options = parser.parse_args(args)
    print(f"{SOURCE_STUDY['images']:,} images, {SOURCE_STUDY['epochs']} epochs on an A100\n\n{limit(*options.base)}\n")
    if options.limit:
        return

    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, batch {options.batch_size}")
    torch.manual_seed(0)
    ours, plain, vit = (net.to(device) for net in nets(*options.base, dropout=0.2))
    compiled, by_fft = copy.deepcopy(ours), copy.deepcopy(ours)
    compiled.compile(backend=options.backend)
    for block in by_fft.blocks:
        block.filter.along_width = None
    subjects = {"GFNet": ours, "GFNet, compiled": compiled, "GFNet, rfft2": by_fft}
    subjects |= {NAMES[type(net)]: net for net in (plain, vit)}
    for kind, title in ((Step, "Training"), (Inference, "Inference")):
        print(f"\n**{title}**\n\n{table(kind, subjects, options.batch_size, options.rounds)}", flush=True)
    if device == "cpu":
        print("\nTF32: there is none on a CPU")
    print(f"\n{from_cache(ours, options.batch_size, options.rounds, options.images)}", flush=True)
    print(f"\n{switched(ours, options.batch_size, options.rounds)}", flush=True)
    profiles = {
        f"{NAMES[type(net)]}, {precision(bf16)}": shares(Step(net, options.batch_size, bf16=bf16))
        for net in (plain, ours)
        for bf16 in (False, True)
    }
    rows = [
        [
            kind,
            *(f"{1000 * each[kind]:.1f} ({100 * each[kind] / sum(each.values()):.0f} %)" for each in profiles.values()),
        ]
        for kind in [*KINDS, "the rest"]
    ]
    print(f"\n{markdown(['µs per image (share)', *profiles], rows)}")


if __name__ == "__main__":
    main()
