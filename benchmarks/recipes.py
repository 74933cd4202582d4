"""What helps a recipe: variants of one, each trained from several seeds, side by side at the same number of pictures.

    python benchmarks/recipes.py base quick robust --data root=hand-signs-v2
    python benchmarks/recipes.py base quick robust --data root=hand-signs-v2 --smoothing 0.1 --seeds 1 2 3
    python benchmarks/recipes.py base quick robust --data root=hand-signs-v2 --augment flip=0.5
    python benchmarks/recipes.py base quick robust --data root=hand-signs-v2 --background 0.5
    python benchmarks/recipes.py base fashion-mnist --data root=DIR --model 'dim=[64, 128]' 'depth=[2, 3]' --epochs 45

The names are files of configs/, the second laid over the first. A bare loop with their net, data, order, augmentation
and schedule: all pictures are on the device, a GPU runs a training step as one CUDA graph, and an epoch's last, smaller
batch is left out. The epoch is chosen by validation with one view of each picture, as in `gfnet fit`; the sets are
scored with the net's own views, and once more with these and their mirror images. "errors known" is the area under the
curve by which the gap between the two largest logits tells right answers from wrong ones: what is accepted hangs on it.
"""

import argparse
import math
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gfnet_pl import GFNet, ImageDataModule
from gfnet_pl.data.augment import Augment
from gfnet_pl.data.batches import channels_first
from gfnet_pl.evaluation.calibration import FEWEST_TO_FIT, Calibration, judged_by_others
from gfnet_pl.hand_signs import scene
from gfnet_pl.hand_signs.capsules import FAR, before
from gfnet_pl.training.schedule import warmup_cosine
from gfnet_pl.training.sharpness import SharpnessAwareAdamW

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


# --- nets


def stem(layers: list[str], in_channels: int, dim: int) -> nn.Sequential:
    """Convolutions of 3 x 3, each given as its channels, or as channels/stride."""
    found: list[nn.Module] = []
    for layer in layers:
        out, stride = (int(number) for number in [*layer.split("/"), "1"][:2])
        found += [nn.Conv2d(in_channels, out, 3, stride=stride, padding=1), nn.BatchNorm2d(out), nn.GELU()]
        in_channels = out
    return nn.Sequential(*found, nn.Conv2d(in_channels, dim, 1))


# --- changes of a batch that the product does not have


def perspective(strength: float) -> Change:
    """A random perspective: the plane of the picture is turned about both its axes."""

    def change(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        count, _, height, width = images.shape
        y, x = ((2 * torch.arange(side, device=images.device) + 1) / side - 1 for side in (height, width))
        across, down = (2 * torch.rand(2, count, 1, 1, device=images.device) - 1) * strength
        depth = 1 + across * x[None, None, :] + down * y[None, :, None]
        grid = torch.stack((x[None, None, :] / depth, y[None, :, None] / depth), dim=-1)
        return F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False), labels

    return change


def amplitude_mix(probability: float) -> Change:
    """Amplitudes of the Fourier spectrum blended with another picture's, phases kept.

    Xu et al., "A Fourier-based Framework for Domain Generalization", CVPR 2021.
    """

    def change(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(2, len(images), 1, 1, 1, device=images.device)
        share = drawn[0] * (drawn[1] < probability)
        spectrum = torch.fft.rfft2(images.float())
        amplitude = spectrum.abs()
        factor = torch.lerp(amplitude, amplitude.roll(1, 0), share) / amplitude.clamp(min=1e-3)
        return torch.fft.irfft2(spectrum * factor, s=images.shape[2:]).clamp(0, 255), labels

    return change


def hand_mask(path: str) -> np.ndarray:
    """Which share of each pixel of a picture of hand signs (version 2) is hand or sleeve, in quarters: (96, 96)."""
    numbers = re.search(r"signer(\d+)_clip(\d+)_frame(\d+)", path)
    assert numbers, path
    drawn = np.zeros((192, 192), bool)  # "Nothing" is the wall alone

    def seen(image: np.ndarray, depth: np.ndarray, *others: Any) -> np.ndarray:
        np.greater(depth, FAR, out=drawn)
        return before(image, depth, *others)

    number, clip, frame = (int(each) for each in numbers.groups())
    with patch.object(scene, "before", seen):
        scene.render(path.split("/")[-2], number=number, clip=clip, frame=frame)
    return drawn.reshape(96, 2, 96, 2).sum((1, 3), dtype=np.uint8)


class Backgrounds:
    """Training pictures' walls exchanged for those of others, with the masks that the renderer knows."""

    def __init__(self, data: ImageDataModule, images: Tensor, probability: float) -> None:
        train = [picture for picture in data.pictures if picture.split == "train"]
        with Pool() as pool:
            masks = np.stack(pool.map(hand_mask, [picture.path for picture in train], chunksize=64))
        self.hand = torch.from_numpy(masks)[:, None].to(images.device) / 4
        alone = [row for row, picture in enumerate(train) if picture.label == "Nothing"]
        self.walls, self.probability = images[alone], probability

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        drawn = torch.rand(2, len(images), device=images.device)
        walls = self.walls[(drawn[0] * len(self.walls)).long()]
        kept = torch.where((drawn[1] < self.probability)[:, None, None, None], self.hand[rows], 1)
        return torch.lerp(walls.float(), images.float(), kept).round().to(torch.uint8)


# --- a training


class Sets:
    """A recipe's pictures and labels, all on the device."""

    def __init__(self, data: ImageDataModule, device: torch.device) -> None:
        data.setup("fit")
        data.setup("test")
        self.images, self.labels, self.groups = {}, {}, {}
        for split, part in data.sets.items():
            self.images[split] = channels_first(torch.from_numpy(part.images[part.rows])).to(device)
            self.labels[split] = torch.from_numpy(part.labels).to(device)
            self.groups[split] = [picture.group for picture in data.pictures if picture.split == split]


class Training:
    """One net, one seed: `step` is a training step on the device, which counts its steps there."""

    def __init__(self, values: argparse.Namespace, settings: dict[str, Any], seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        chosen = dict(settings["data"], seed=seed, augment=Augment(**settings["data"].get("augment", {})))
        model = dict(settings["model"])
        self.lr, decay, self.warm_up = model.pop("lr"), model.pop("weight_decay"), model.pop("warmup_epochs")
        rho = model.pop("sam_rho", 0.0)
        self.data = ImageDataModule(**chosen, image_size=model.get("image_size", 96))
        self.data.prepare_data()
        self.sets = Sets(self.data, device)
        self.values, self.device = values, device
        model["num_classes"] = len(self.data.classes)
        self.net = GFNet(**model)
        if values.stem:
            self.net.patch_embed.proj = stem(values.stem, len(self.net.mean), self.net.pos_embed.shape[2])
        self.net.set_normalisation(*self.data.normalisation())
        self.net.to(device)
        self.epochs = int(values.epochs or settings["trainer"]["max_epochs"])
        self.clip = settings["trainer"]["gradient_clip_val"]
        graph = device.type == "cuda"
        kind = partial(SharpnessAwareAdamW, rho=rho) if rho else torch.optim.AdamW
        options = {"capturable": True, "fused": True} if graph else {}
        rate = torch.tensor(self.lr, device=device) if graph else self.lr  # what a graph reads is on the device
        self.optimizer = kind(self.net.parameters(), lr=rate, weight_decay=decay, **options)
        self._plan()
        images = self.sets.images["train"]
        self.exchanged = Backgrounds(self.data, images, values.background) if values.background else None
        self.changes = [perspective(values.perspective)] if values.perspective else []
        self.changes += [amplitude_mix(values.amplitude)] if values.amplitude else []
        self.run = self._captured() if graph else self.step

    def _plan(self) -> None:
        """Every step's pictures, seeds and learning rate."""
        loader = self.data.train_dataloader()
        order, size = loader.sampler, self.data.batch_size
        rows, seeds = [], []
        for epoch in range(self.epochs):
            order.set_epoch(epoch)
            for draw in order:
                if len(draw.images) == size:
                    rows.append(draw.images)
                    seeds.append(draw.seeds)
        self.steps = len(rows)
        self.per_epoch = self.steps // self.epochs
        warm_up = self.warm_up * self.per_epoch
        rates = [
            self.lr * warmup_cosine(step, warmup_steps=warm_up, total_steps=self.steps) for step in range(self.steps)
        ]
        if self.values.constant:
            first = round(self.steps * (1 - self.values.constant))
            rates[first:] = [rates[first]] * (self.steps - first)
        self.rows, self.seeds = (torch.from_numpy(np.stack(each)).to(self.device) for each in (rows, seeds))
        self.rates = torch.tensor(rates, device=self.device)
        self.at = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.loss = torch.zeros((), device=self.device)

    def step(self) -> None:
        rows, seeds = self.rows[self.at][0], self.seeds[self.at][0]
        images, labels = self.sets.images["train"][rows], self.sets.labels["train"][rows]
        if self.exchanged:
            images = self.exchanged(images, rows)
        images = self.data.augment(images, seeds)
        for change in self.changes:
            images, labels = change(images, labels)
        rate = self.rates[self.at][0]
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = rate.item()

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=False)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.values.bf16):
                logits = self.net(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.values.smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
            return loss

        self.loss.copy_(self.optimizer.step(closure).detach())
        self.at += 1

    def _captured(self) -> Callable[[], None]:
        """The step as a CUDA graph; the steps that are needed to capture it leave no trace in the net."""
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.net.train()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.net.load_state_dict(before)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        self.at.zero_()
        return graph.replay

    def train(self) -> dict[str, Any]:
        start, best, best_epoch = time.perf_counter(), -1.0, 0
        kept: dict[str, Tensor] = {}
        average = None
        if self.values.average:
            moving = get_ema_multi_avg_fn(self.values.average)
            average = AveragedModel(self.net, multi_avg_fn=moving, use_buffers=True)
        elif self.values.constant:
            average = AveragedModel(self.net)
        for epoch in range(self.epochs):
            self.net.train()
            for _ in range(self.per_epoch):
                self.run()
                if self.values.average:
                    average.update_parameters(self.net)
            share = self.right("val", self.logits("val", one_view=True)).mean().item()
            state = {name: value.clone() for name, value in self.net.state_dict().items()}
            if share >= best:
                best, best_epoch, kept = share, epoch + 1, state
            if self.values.constant and epoch >= self.epochs * (1 - self.values.constant):
                average.update_parameters(self.net)
            if epoch % 5 == 4 or epoch + 1 == self.epochs:
                print(f"  epoch {epoch + 1}: loss {self.loss.item():.3f}, val {share:.2%}", flush=True)
        seconds = time.perf_counter() - start
        found = {"seconds": seconds, "best_epoch": best_epoch}
        found["last"] = self._scores()
        self.net.load_state_dict(kept)
        found["best"] = self._scores()
        if average:
            self.net.load_state_dict(average.module.state_dict())
            if self.values.constant:
                self._batch_statistics()
            found["average"] = self._scores()
        return found

    def _batch_statistics(self) -> None:
        """Of the mean of several epochs' weights: batch normalisation has none that fit them."""
        self.net.train()
        norms = [module for module in self.net.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        with torch.no_grad():
            for rows, seeds in zip(self.rows[:200], self.seeds[:200], strict=True):
                self.net(self.data.augment(self.sets.images["train"][rows], seeds))

    @torch.no_grad()
    def logits(self, split: str, *, one_view: bool, mirrored: bool = False) -> Tensor:
        self.net.eval()
        found = []
        for part in self.sets.images[split].split(256):
            features = self.net.features(part, one_view=one_view)
            if mirrored:
                features = (features + self.net.features(part.flip(3), one_view=one_view)) / 2
            found.append(self.net.head(features))
        return torch.cat(found)

    def right(self, split: str, logits: Tensor) -> Tensor:
        return (logits.argmax(1) == self.sets.labels[split]).float()

    def _scores(self) -> dict[str, float]:
        found = {}
        for split in self.values.score:
            if split not in self.sets.images:
                continue
            logits = self.logits(split, one_view=False)
            right = self.right(split, logits)
            found[split] = 100 * right.mean().item()
            mirrored = self.right(split, self.logits(split, one_view=False, mirrored=True))
            found[f"{split} mirrored"] = 100 * mirrored.mean().item()
            found[f"{split} errors known"] = errors_known(logits, right)
            groups = np.array(self.sets.groups[split])
            if split in ("dev", "unseen"):
                found[f"{split} worst"] = 100 * min(
                    right.cpu()[torch.from_numpy(groups == name)].mean().item() for name in set(groups)
                )
                found |= accepted(split, logits.cpu().numpy(), self.sets.labels[split].cpu().numpy(), groups)
        return found


def errors_known(logits: Tensor, right: Tensor) -> float:
    """Percent of pairs of a right and a wrong answer in which the right one is surer; NaN if all are right, or none."""
    largest = logits.topk(2, dim=1).values
    gap = largest[:, 0] - largest[:, 1]
    sure, unsure = gap[right > 0], gap[right == 0]
    return 100 * (sure[:, None] > unsure).float().mean().item()


def accepted(split: str, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Percent of new people's pictures that are accepted with 1 % of errors promised, and of these the wrong ones.

    Thresholds are fitted as the report fits them, on other people than they judge, but nothing is too unfamiliar.
    """
    if len(set(groups)) < FEWEST_TO_FIT:
        return {}
    whole = Calibration.fit(logits, labels, groups.tolist())
    taken = judged_by_others(whole, logits, labels, groups.tolist(), logits).accepted[0]
    wrong = (logits.argmax(1) != labels)[taken]
    return {f"{split} accepted": 100 * taken.mean(), f"{split} wrong": 100 * wrong.mean() if len(wrong) else 0.0}


def laid_over(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The settings of several configs and of the command line, the later over the earlier."""
    settings: dict[str, Any] = {}

    def lay(under: dict[str, Any], over: dict[str, Any]) -> None:
        for key, value in over.items():
            if isinstance(value, dict):
                lay(under.setdefault(key, {}), value)
            else:
                under[key] = value

    for name in names:
        lay(settings, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))
    for room in ("data", "model"):
        lay(settings, {room: dict(pair.split("=", 1) for pair in getattr(options, room))})
        settings[room] = {
            key: yaml.safe_load(str(value)) if isinstance(value, str) else value
            for key, value in settings[room].items()
        }
    lay(
        settings,
        {"data": {"augment": {key: float(value) for key, value in (pair.split("=") for pair in options.augment)}}},
    )
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="names of files in configs/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--data", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the data")
    parser.add_argument("--model", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the model")
    parser.add_argument("--augment", nargs="+", default=[], metavar="KEY=VALUE", help="settings of data.augment")
    parser.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    averages = parser.add_mutually_exclusive_group()
    averages.add_argument("--constant", type=float, default=0.0, help="last share at a constant rate, weights averaged")
    averages.add_argument(
        "--average", type=float, default=0.0, help="decay per step of a moving average of the weights"
    )
    parser.add_argument("--perspective", type=float, default=0.0)
    parser.add_argument("--amplitude", type=float, default=0.0, help="share of pictures with mixed amplitudes")
    parser.add_argument("--background", type=float, default=0.0, help="share of hand signs before another wall")
    parser.add_argument(
        "--stem", nargs="+", metavar="CHANNELS[/STRIDE]", help="other convolutions of 3 x 3 in the stem"
    )
    parser.add_argument("--score", nargs="+", default=["val", "holdout", "dev"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--name", default="variant", help="what to call it")
    parser.add_argument("--speed", type=int, help="only time so many steps")
    values = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    settings = laid_over(values.configs, values)
    found = []
    for seed in values.seeds:
        training = Training(values, settings, seed, device)
        if values.speed:
            training.net.train()
            rounds = []
            for _ in range(5):
                training.loss.item()  # waits for the device
                start = time.perf_counter()
                for _ in range(values.speed):
                    training.run()
                training.loss.item()
                rounds.append(values.speed / (time.perf_counter() - start))
            rate = statistics.median(rounds)
            print(f"{values.name}: {rate:.0f} steps/s, {training.data.batch_size * rate:.0f} images/s", flush=True)
            return
        scores = training.train()
        weights = sum(each.numel() for each in training.net.parameters())
        print(
            f"{values.name} seed {seed}: {weights:,} weights, {training.steps:,} steps, {scores['seconds']:.0f} s, "
            f"best epoch {scores['best_epoch']}"
        )
        for which in ("last", "best", "average"):
            if which in scores:
                print(
                    f"    {which}: " + ", ".join(f"{name} {share:.2f}" for name, share in scores[which].items()),
                    flush=True,
                )
        found.append(scores)
        del training
    for which in ("last", "best", "average"):
        if which in found[0]:
            cells = []
            for name in found[0][which]:
                shares = [each[which][name] for each in found]
                spread = statistics.stdev(shares) if len(shares) > 1 else math.nan
                cells.append(f"{name} {statistics.mean(shares):.2f} ± {spread:.2f}")
            print(f"{values.name}, {which}, {len(found)} seeds: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
