"""Two real processes (gloo): one schedule, every image once."""

import csv
import subprocess
import sys
from pathlib import Path

import torch


def test_two_processes_step_the_same_schedule_and_count_every_image_once(tiny):
    command = [Path(sys.executable).with_name("gfnet"), *tiny, "--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    state = torch.load("runs/base/version_0/checkpoints/last.ckpt", weights_only=True)
    rows = csv.DictReader(Path("runs/base/version_0/splits.csv").read_text().splitlines())
    images = sum(row["split"] == "train" for row in rows)
    assert images == 48
    assert state["global_step"] == 2 * 2  # 24 images a process in batches of 16, two epochs
    (schedule,) = state["lr_schedulers"]
    assert schedule["_last_lr"][0] == 0  # the cosine has come to its end
    evaluated = subprocess.run(
        [command[0], "test", "--trainer.devices=2", "--trainer.strategy=ddp"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert evaluated.returncode == 0, evaluated.stderr
    for row in ("val     │      6", "test    │     12", "holdout │      6", "unseen  │     15"):
        assert row in evaluated.stdout
