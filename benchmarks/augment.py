"""Batched augmentation: ours against Kornia's, in milliseconds per image.

Kornia is not a dependency: without `pip install kornia` only ours is measured.

    python benchmarks/augment.py --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfnet_pl.data.augment import Augment

try:
    import kornia.augmentation as kornia
except ImportError:
    kornia = None

EACH = {
    "affine": {"rotation": 15.0, "scale": 0.2, "shift": 0.08},
    "brightness and contrast": {"brightness": 0.1, "contrast": 0.3},
    "erasing": {"erasing": 0.25},
}


def theirs() -> dict[str, list[nn.Module]]:
    """Kornia's modules with the same ranges; p=1 where ours changes every image."""
    k = kornia
    affine = k.RandomAffine(15.0, (0.08, 0.08), (0.8, 1.2), padding_mode="reflection", p=1.0)
    return {
        "affine": [affine],
        "brightness and contrast": [
            k.RandomBrightness((0.9, 1.1), p=1.0),
            k.RandomContrast((0.7, 1.3), p=1.0),
        ],
        "erasing": [k.RandomErasing(p=0.25)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=31)
    values = parser.parse_args()
    torch.set_num_threads(values.threads)
    images = torch.randint(0, 256, (values.batch, 1, 96, 96), dtype=torch.uint8)
    seeds = torch.arange(values.batch)
    tasks: dict[tuple[str, str], Callable[[], object]] = {}
    rows = {**EACH, "all": {name: value for part in EACH.values() for name, value in part.items()}}
    for name, options in rows.items():
        ours = Augment(**options)
        tasks[name, "ours"] = lambda ours=ours: ours(images, seeds)
    if kornia:
        each = theirs()
        each["all"] = [module for part in list(each.values()) for module in part]
        for name, modules in each.items():
            tasks[name, "kornia"] = lambda modules=modules: in_kornia(modules, images)
    times: dict[tuple[str, str], list[float]] = {task: [] for task in tasks}
    for _ in range(values.repeats):  # in turn, so that a disturbance affects all of them
        for task, work in tasks.items():
            start = time.perf_counter()
            work()
            times[task].append(1e3 * (time.perf_counter() - start) / values.batch)
    print(f"{values.batch} images of 96 x 96, {values.threads} threads, median of {values.repeats}, ms per image")
    print("| | ours | Kornia | ratio |\n|---|---|---|---|")
    for name in rows:
        own = statistics.median(times[name, "ours"])
        other = statistics.median(times.get((name, "kornia"), [float("nan")]))
        print(f"| {name} | {own:.3f} | {other:.3f} | {other / own:.1f} |")


def in_kornia(modules: list[nn.Module], images: Tensor) -> Tensor:
    """Kornia works on floats from 0 to 1; the result is converted back to grey levels, like ours."""
    changed = images.float() / 255
    with torch.no_grad():
        for module in modules:
            changed = module(changed)
    return changed * 255


if __name__ == "__main__":
    main()
