"""Which augmentation helps on people whom training never saw: one run per call, on the embedded data.

A bare loop with quick.yaml's recipe (AdamW, warm-up of two epochs, cosine, clipping, bf16), in which a variant is one
option. Prints the validation, holdout and unseen accuracy of the weights and of their moving average.

    python benchmarks/robust.py --epochs 24 --augment '{"rotation": 14.3, "scale": 0.2}' --seed 1
    python benchmarks/robust.py --dim 128 --depth 6 --batch-size 64 --epochs 30 --drop-path 0
"""

import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gfnet_pl import GFNet, ImageDataModule
from gfnet_pl.data.augment import Augment

ROBUST = '{"rotation": 14.3, "scale": 0.2, "shift": 0.075, "contrast": 0.3, "brightness": 0.1}'
SETS = ("val", "holdout", "unseen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--augment", type=json.loads, default=json.loads(ROBUST), help="data.augment, as JSON")
    parser.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    parser.add_argument(
        "--average", type=float, default=0.998, help="decay per step of the moving average of the weights"
    )
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--drop-path", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    values = parser.parse_args()
    torch.set_num_threads(values.threads)
    torch.manual_seed(values.seed)
    data = ImageDataModule(holdout_per_class=20, seed=1)  # one split for every seed of the training
    data.setup("fit")
    data.setup("test")
    images = {split: torch.from_numpy(part.images[part.rows])[:, None] for split, part in data.sets.items()}
    labels = {split: torch.from_numpy(part.labels) for split, part in data.sets.items()}
    count, classes = len(labels["train"]), len(data.classes)
    net = GFNet(num_classes=classes, dim=values.dim, depth=values.depth, dropout=0.0, drop_path=values.drop_path)
    net.set_normalisation(*data.normalisation())
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(values.average))
    augment = Augment(**values.augment)
    optimizer = torch.optim.AdamW(net.parameters(), lr=values.lr, weight_decay=0.05)
    steps = math.ceil(count / values.batch_size)
    warm_up, total, step, start = 2 * steps, values.epochs * steps, 0, time.perf_counter()
    for epoch in range(values.epochs):
        order = torch.from_numpy(np.random.default_rng((values.seed, epoch)).permutation(count))
        net.train()
        for first in range(0, count, values.batch_size):
            batch = order[first : first + values.batch_size]
            rise, fall = step / warm_up, 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up)))
            optimizer.param_groups[0]["lr"] = values.lr * (rise if step < warm_up else fall)
            seeds = torch.arange(first, first + len(batch)) + (values.seed * 1000 + epoch) * 1_000_000_007
            changed, target = augment(images["train"][batch], labels["train"][batch], seeds, classes)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(changed)
            loss = F.cross_entropy(logits.float(), target, label_smoothing=values.smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step > warm_up / 2:
                average.update_parameters(net)
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    for name, scored in (("weights", net), ("average", average.module)):
        shares = {split: accuracy(scored, images[split], labels[split]) for split in SETS}
        print(name, ", ".join(f"{split} {share:.2%} of {len(labels[split]):,}" for split, share in shares.items()))


@torch.no_grad()
def accuracy(net: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        right = sum(
            int((net(part).argmax(1) == truth).sum())
            for part, truth in zip(images.split(128), labels.split(128), strict=True)
        )
    return right / len(labels)


if __name__ == "__main__":
    main()
