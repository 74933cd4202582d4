"""How to read a 7 x 7 filter weight on a 12 x 12 token map, whose half spectrum has 12 x 7 frequencies.

Each way to read it is a fixed linear mapping from 7 stored rows to 12 rows of the spectrum:

    full      12 rows, no mapping: the authors' own shape, for comparison
    mirrored  row k uses the stored row |k|: the whole frequency range, rows k and -k share a weight (in `GlobalFilter`)
    resized   the stored rows are the signed frequencies -3..3, stretched to -6..5 by bicubic interpolation
    crop      the stored rows are the signed frequencies -3..3, the others are zero

A small GFNet is trained for every reading and seed on the embedded hand signs. A seed fixes the split, the order of the
images and the initial weights of everything but the filters, so that readings are compared in pairs. Two processes can
share the work, and an interrupted one continues where it stopped:

    OMP_NUM_THREADS=1 python benchmarks/filter_size.py --seeds 0 1 --out runs/filter_size.jsonl &
    OMP_NUM_THREADS=1 python benchmarks/filter_size.py --seeds 2 3 --out runs/filter_size.jsonl
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from gfnet_pl.hand_signs.files import hand_signs_root
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.model.global_filter import GlobalFilter

ROWS, STORED = 12, 7


def resized() -> Tensor:
    stored = torch.eye(STORED).reshape(1, STORED, STORED, 1)  # one channel per stored row, rows in shifted order
    stretched = F.interpolate(stored, size=(ROWS, 1), mode="bicubic", align_corners=True)
    return torch.fft.ifftshift(stretched[0, :, :, 0].T, dim=0)


def crop() -> Tensor:
    frequencies = torch.fft.fftfreq(ROWS, 1 / ROWS).long()  # 0..5, -6..-1
    return (frequencies[:, None] == torch.arange(STORED) - STORED // 2).float()


READINGS: dict[str, Callable[[], Tensor] | None] = {"full": None, "mirrored": None, "resized": resized, "crop": crop}


class ExpandedFilter(GlobalFilter):
    """A filter whose stored rows are mapped to the rows of the spectrum by `expansion`, a (12, 7) matrix."""

    def __init__(self, dim: int, expansion: Tensor) -> None:
        super().__init__(dim, (ROWS, ROWS), (STORED, STORED))
        self.register_buffer("expansion", expansion)

    def response(self) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return torch.tensordot(self.expansion, self.complex_weight, dims=1)


def make_net(reading: str, seed: int, dim: int, depth: int) -> GFNet:
    torch.manual_seed(seed)
    net = GFNet(dim=dim, depth=depth, dropout=0.0, drop_path=0.0)
    for block in net.blocks:
        expansion = READINGS[reading]
        if expansion is not None:
            block.filter = ExpandedFilter(dim, expansion())
        elif reading == "mirrored":
            block.filter = GlobalFilter(dim, (ROWS, ROWS), (STORED, STORED))
    return net


def read_images(folder: Path) -> tuple[Tensor, Tensor]:
    """All pictures of a folder of classes: (n, 1, 96, 96) uint8 and (n,) labels."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).glob("*.png"))]
    images = np.stack([np.asarray(Image.open(path).convert("L")) for path, _ in files])
    return torch.from_numpy(images)[:, None], torch.tensor([label for _, label in files])


def stratified_split(labels: Tensor, seed: int, share: float = 0.1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    train, val = [], []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        count = round(share * len(members))
        val.append(members[:count])
        train.append(members[count:])
    return torch.cat(train), torch.cat(val)


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        hits = sum((net(x).argmax(1) == y).sum() for x, y in zip(images.split(256), labels.split(256), strict=True))
    return int(hits) / len(labels)


def run(reading: str, seed: int, args: argparse.Namespace, seen: tuple[Tensor, Tensor], unseen: tuple[Tensor, Tensor]):
    started = time.monotonic()
    images, labels = seen
    train, val = stratified_split(labels, seed)
    net = make_net(reading, seed, args.dim, args.depth)
    pixels = images[train].float()
    net.set_normalisation([pixels.mean().item()], [pixels.std().item()])

    decayed = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    steps = args.epochs * (len(train) // args.batch_size)
    warm_up = steps // 10

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    generator = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(args.epochs):
        order = train[torch.randperm(len(train), generator=generator)]
        for batch in order[: len(order) // args.batch_size * args.batch_size].split(args.batch_size):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {
        "reading": reading,
        "seed": seed,
        "validation": accuracy(net, images[val], labels[val]),
        "unseen": accuracy(net, *unseen),
        "last_loss": loss.item(),
        "counts": [len(train), len(val), len(unseen[1])],
        "seconds": round(time.monotonic() - started),
        "settings": settings(args),
    }


def settings(args: argparse.Namespace) -> dict[str, float]:
    return {name: getattr(args, name) for name in ("dim", "depth", "epochs", "batch_size", "lr")}


def finished(args: argparse.Namespace) -> dict[tuple[str, int], dict]:
    if not args.out.exists():
        return {}
    lines = [json.loads(line) for line in args.out.read_text().splitlines()]
    return {(line["reading"], line["seed"]): line for line in lines if line["settings"] == settings(args)}


def table(results: dict[tuple[str, int], dict]) -> str:
    """Accuracies: mean and sample standard deviation over seeds, then each seed's difference from `full`."""
    seeds = sorted({seed for _, seed in results})
    train, val, unseen = next(iter(results.values()))["counts"]
    lines = [
        f"{train} training, {val} validation, {unseen} unseen-signer images; {len(seeds)} seeds; seed by seed: "
        "difference from full in percentage points.",
        "",
        "| reading | runs | validation % | unseen signers % | validation, seed by seed | unseen, seed by seed |",
        "|---|---|---|---|---|---|",
    ]
    for reading in READINGS:
        done = [seed for seed in seeds if (reading, seed) in results]
        if not done:
            continue
        cells = [reading, str(len(done))]
        for metric in ("validation", "unseen"):
            values = [100 * results[reading, seed][metric] for seed in done]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        for metric in ("validation", "unseen"):
            pairs = [seed for seed in done if ("full", seed) in results]
            gaps = [100 * (results[reading, seed][metric] - results["full", seed][metric]) for seed in pairs]
            cells.append("" if reading == "full" else " ".join(f"{gap:+.1f}" for gap in gaps))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/filter_size.jsonl"))
    args = parser.parse_args()

    root = hand_signs_root()
    seen, unseen = read_images(root / "Train"), read_images(root / "Unseen")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for reading in READINGS:
            if (reading, seed) not in finished(args):
                result = run(reading, seed, args, seen, unseen)
                with args.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print(json.dumps(result), flush=True)
    print(table(finished(args)))


if __name__ == "__main__":
    main()
