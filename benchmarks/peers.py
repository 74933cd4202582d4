"""What nets of another kind reach in the time that a run took: a small ResNet and a ViT in plain PyTorch.

    python benchmarks/peers.py runs/fashion-mnist/version_0
    python benchmarks/peers.py RUN --minutes 10 --nets resnet --seed 2

Both train on the run's pictures, splits, batches and augmentation, in its precision, on as many threads, for as long as
its epochs took (validation included, which they leave out), and are scored once, on its test pictures. AdamW with
decoupled weight decay, gradients clipped to norm 1, a tenth of the time warm-up and then a cosine down to 0 by the
clock: so a net that computes more per picture sees fewer of them. The last weights are scored; nothing is chosen.
"""

import argparse
import math
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from small_folders import Residual
from textbook import ViT
from torch import Tensor, nn

from gfnet_pl.data.augment import Augment
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.record import read_sessions
from gfnet_pl.run.result_files import read_metrics

WEIGHT_DECAY, WARMUP = 0.05, 0.1
RATES = {"resnet": 1e-2, "vit": 1e-3}
STAGES = ((32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))  # before, after, stride


class ResNet(nn.Module):
    """Three stages of two blocks, 32 to 128 channels, 0.7 million weights: (B, C, H, W) levels -> (B, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 32, 3, 1, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            *(Residual(before, after, stride) for before, after, stride in STAGES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(((images.float() - 127.5) / 74).contiguous(memory_format=torch.channels_last))


def data_of(run: RunFolder, seed: int) -> ImageDataModule:
    """The run's data, its splits and its augmentation."""
    settings: dict[str, Any] = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    chosen = settings["data"] | {"splits": str(run.splits), "seed": seed}
    chosen["augment"] = Augment(**chosen["augment"])
    data = ImageDataModule(**chosen, image_size=settings["model"]["image_size"])
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def peer(name: str, data: ImageDataModule) -> nn.Module:
    if name == "resnet":
        return ResNet(data.canvas.channels, len(data.classes)).to(memory_format=torch.channels_last)
    side = data.canvas.height
    patch = next(size for size in (4, 8, 7, 6, 5) if side % size == 0 and side // size <= 16)
    return ViT(dim=128, depth=4, heads=4, dropout=0.0, image_size=side, patch_size=patch, num_classes=len(data.classes))


def train(net: nn.Module, data: ImageDataModule, *, seconds: float, rate: float, bf16: bool) -> int:
    """Trains until the time is over; the number of pictures that it took."""
    decayed = [weights for weights in net.parameters() if weights.ndim > 1]
    others = [weights for weights in net.parameters() if weights.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    loader, start, pictures = data.train_dataloader(), perf_counter(), 0
    for epoch in count():
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            done = (perf_counter() - start) / seconds
            if done >= 1:
                return pictures
            share = done / WARMUP if done < WARMUP else (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            images, labels, _ = data.on_after_batch_transfer(batch, 0)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = net(images)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            pictures += len(images)
    raise AssertionError  # the time is over before the epochs are


def score(net: nn.Module, data: ImageDataModule, split: str = "test") -> tuple[int, int]:
    """How many pictures of a set are right, in float32, and how many there are."""
    net.eval()
    right = total = 0
    with torch.inference_mode():
        for batch in data.test_dataloader()[data.evaluated.index(split)]:
            right += int((net(batch.images).argmax(1) == batch.labels).sum())
            total += len(batch.labels)
    return right, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, help="default: as long as the run's epochs took")
    parser.add_argument("--nets", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--seed", type=int, default=1)
    values = parser.parse_args()
    run = RunFolder(values.run)
    sessions = read_sessions(run)
    seconds = 60 * values.minutes if values.minutes else sum(session["seconds"] for session in sessions)
    bf16 = sessions[-1]["precision"].startswith("bf16")
    test = read_metrics(run)["sets"]["test"]["accuracy"]
    print(f"gfnet_pl, {run.name}: {test['right']:,} of {test['images']:,} ({100 * test['share']:.2f} %)", flush=True)
    for name in values.nets:
        torch.manual_seed(values.seed)
        data = data_of(run, values.seed)
        net = peer(name, data)
        pictures = train(net, data, seconds=seconds, rate=RATES[name], bf16=bf16)
        right, total = score(net, data)
        weights = sum(each.numel() for each in net.parameters())
        print(
            f"{name}, {weights:,} parameters, {seconds / 60:.0f} min, {pictures:,} pictures: {right:,} of {total:,} "
            f"({100 * right / total:.2f} %)",
            flush=True,
        )


if __name__ == "__main__":
    main()
