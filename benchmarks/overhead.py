"""What Lightning, its progress bar, logging and callbacks add to a step: `gfnet fit` against a bare loop.

    python benchmarks/overhead.py

Trains the quick net by the robust recipe on a small set of hand signs, in a temporary folder. After each epoch of
`gfnet fit`, a bare loop runs one epoch with a copy of the net and the same batches: index, augment, forward, backward,
clip, AdamW. Prints the median time from the end of one step to the end of the next for each epoch, and the median of
the epochs' ratios.
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer

from gfnet_pl.cli import main as gfnet
from gfnet_pl.training import lightning_cli
from gfnet_pl.training.callbacks import Throughput

RATIOS: list[float] = []


def bare_loop(trainer: Trainer, model: LightningModule) -> list[float]:
    """Seconds of each step of an epoch."""
    data = trainer.datamodule
    net = copy.deepcopy(model.net).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    ends = []
    for batch in data.train_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        with trainer.precision_plugin.forward_context():
            logits = net(batch.images)
        loss = F.cross_entropy(logits.float(), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        ends.append(time.perf_counter())
    return [end - start for start, end in pairwise(ends)]


class InTurn(Throughput):
    """Replaces the last callback: times Lightning's steps, then those of the bare loop."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        super().on_train_batch_end(*args, **kwargs)
        self.ends.append(time.perf_counter())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        ours = statistics.median(end - start for start, end in pairwise(self.ends))
        with torch.enable_grad(), torch.random.fork_rng():
            bare = statistics.median(bare_loop(trainer, pl_module))
        RATIOS.append(ours / bare)
        print(f"epoch {trainer.current_epoch}: gfnet fit {1000 * ours:.2f} ms per step, bare loop {1000 * bare:.2f} ms")


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=2048, help="images per epoch")
    values, options = parser.parse_known_args(args)
    RATIOS.clear()
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, patch.object(lightning_cli, "Throughput", InTurn):
        os.chdir(folder)
        gfnet(["hand-signs", "--out", "signs", "--signers", "4", "--frames", "4", "--unseen-signers", "1"])
        configs = [word for name in ("base", "quick", "robust") for word in ("--config", f"{name}.yaml")]
        data = ["--data.root=signs", "--data.holdout_per_class=0", f"--data.epoch_size={values.images}"]
        status = gfnet(["fit", *configs, *data, f"--trainer.max_epochs={values.epochs}", *options])
        os.chdir(before)
    if status:
        raise SystemExit(status)
    print(f"gfnet fit over bare loop: {100 * (statistics.median(RATIOS) - 1):+.1f} % (median of {len(RATIOS)} epochs)")


if __name__ == "__main__":
    main()
