"""Real processes (gloo): one schedule, every image once, one cache."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import QUIET
from forked import Forked, together

from gfnet_pl.cli import main
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.errors import UserError
from gfnet_pl.training.agreement import SameData


@pytest.mark.parametrize(("processes", "start"), [(2, "by Lightning"), (3, "as by torchrun")])
def test_processes_step_the_same_schedule_and_count_every_image_once(tiny, pictures, processes, start):
    several = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"]

    def started(words):
        if start == "by Lightning":  # the first one starts the others
            first = Forked(words)
            return first.wait(), first.stdout, first.stderr
        each = together(words, processes)
        said = ("".join(getattr(one, stream) for one in each) for stream in ("stdout", "stderr"))
        return max(abs(one.returncode) for one in each), *said

    status, out, err = started([*tiny, *several])
    assert status == 0, err
    assert err.count("pictures decoded") == 1
    assert err.count("pictures in 3 classes") == 1  # one process speaks
    assert "sync_dist" not in out + err  # Lightning's word for what only one process knows
    state = torch.load("runs/base/version_0/checkpoints/last.ckpt", weights_only=True)
    rows = csv.DictReader(Path("runs/base/version_0/splits.csv").read_text().splitlines())
    images = sum(row["split"] == "train" for row in rows)
    assert images == 48
    steps = {2: 2, 3: 1}[processes]  # 24 or 16 images a process, in batches of 16
    assert state["global_step"] == 2 * steps
    assert len(list(Path("runs/base/version_0").glob("events*"))) == 1  # one process writes
    with np.load("runs/base/version_0/filters.npz") as kept:
        assert kept["epochs"].tolist() == [0, 1, 2]
    (schedule,) = state["lr_schedulers"]
    assert schedule["_last_lr"][0] == 0  # the cosine has come to its end
    status, out, err = started(["test", *several])
    assert status == 0, err
    rows = [line.split()[:3:2] for line in out.splitlines()]  # set and images
    for row in (["val", "6"], ["test", "12"], ["holdout", "6"], ["unseen", "15"]):
        assert rows.count(row) == 1  # printed by one process
    several_wrote = Path("runs/base/version_0/predictions.csv").read_text()
    assert main(["test", *QUIET, "--trainer.devices=1", "--trainer.strategy=auto"]) == 0
    assert Path("runs/base/version_0/predictions.csv").read_text() == several_wrote  # in the order of the pictures
    # As torchrun starts them: each of them classifies its share, and every picture comes once.
    command, ranks = ["predict", *map(str, sorted(pictures.glob("Unseen/*/0[01].png")))], range(processes)
    assert main([*command, "--out=one.csv"]) == 0
    assert [each.returncode for each in together(command, processes)] == [0] * processes
    parts = [Path(f"predictions-{rank + 1}-of-{processes}.csv").read_text().splitlines()[1:] for rank in ranks]
    one = Path("one.csv").read_text().splitlines()[1:]
    assert parts == [one[rank::processes] for rank in ranks]
    assert len(one) == 6


def test_processes_together_train_as_one_with_their_batches_together(tiny):
    """The order and the augmentation of an image do not depend on the process: a mean of gradients is the same.

    So it is when each process takes its batch in parts.
    """
    in_parts = {"gfnet_pl.training.micro_batches:LARGEST": 3 * 16 * 64}
    losses = {}
    for stage, processes, batch in (("one", 1, 12), ("three", 3, 4), ("three_in_parts", 3, 4)):
        options = [
            f"--stage={stage}",
            f"--data.batch_size={batch}",
            "--trainer.precision=32-true",
            "--data.augment.rotation=20",
            "--model.dropout=0",
            "--model.drop_path=0",
        ]
        several = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"]
        settings = in_parts if stage == "three_in_parts" else {}
        for each in together([*tiny, *options, *several], processes, settings=settings):
            assert each.returncode == 0, each.stderr
        losses[stage] = torch.load(f"runs/{stage}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, value in losses["one"].items():
        torch.testing.assert_close(losses["three"][name], value, rtol=1e-3, atol=1e-4, msg=name)
        torch.testing.assert_close(losses["three_in_parts"][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_of_a_run_that_was_refused_nothing_is_left(tiny, pictures, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    for label, name in (("ant", "bee"), ("bee", "ant")):  # the same names, splits and classes
        shutil.copy(pictures / "Train" / label / "00.png", other / "Train" / name / "00.png")
    several = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    commands = [[*tiny, f"--data.root={root}", *several] for root in (pictures, other)]
    started = together(commands, 2, {"LOCAL_RANK": "0"})
    assert [each.returncode for each in started] == [2, 2]
    assert "sees other pixels than process 0" in started[0].stderr
    assert not Path("runs").exists()


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the second agent finds the first one by Linux's loopback device")
def test_torchrun_brings_a_lost_process_back_and_the_run_ends_as_if_nothing_had_happened(tiny):
    """Two agents of torchrun, as on two machines, by the script of docs/several-machines.md."""
    last = Path("runs/base/version_0/checkpoints/last.ckpt")
    epochs, script = 12, Path("train.sh")
    script.write_text(
        f'set -e; echo $RANK $$ >> started; [ -f {last} ] && set -- "$@" --ckpt_path {last}\n'
        f'exec {sys.executable} -m gfnet_pl "$@"\n'
    )
    ours = [*tiny, f"--trainer.max_epochs={epochs}", "--trainer.strategy=ddp", "--model.dropout=0.2"]
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2"]
    agent += [
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=localhost:{free_port()}",
        "--rdzv-id=x",
        "--local-addr=localhost",
    ]
    command = ["--no-python", "sh", str(script), *ours, "--trainer.num_nodes=2", "--trainer.devices=1"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    agents = [
        subprocess.Popen([*agent, f"--rdzv-conf=is_host={host}", *command], env=environment, stderr=subprocess.DEVNULL)
        for host in (1, 0)
    ]
    try:
        until = time.monotonic() + 100
        while not last.is_file() and time.monotonic() < until:
            time.sleep(0.05)
        ranks = dict(line.split() for line in Path("started").read_text().splitlines())
        os.kill(int(ranks["1"]), signal.SIGKILL)
        assert [each.wait(timeout=100) for each in agents] == [0, 0]
    finally:
        for each in agents:
            each.kill()
    assert len(Path("started").read_text().splitlines()) == 4  # both came back once
    several = ["--trainer.devices=2", "--stage=uninterrupted"]
    for each in together([*ours, *several], 2):
        assert each.returncode == 0, each.stderr
    one, other = (
        torch.load(f"runs/{stage}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for stage in ("base", "uninterrupted")
    )
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(("part", "what"), [(None, None), (1, "pictures or splits"), (2, "pixels")])
def test_a_process_that_sees_other_pictures_is_refused_by_name(pictures, monkeypatch, part, what):
    data = ImageDataModule(str(pictures), image_size=16, holdout_per_class=2)
    data.setup("fit")

    def gather(seen, mine):
        other = list(mine)
        if part:
            other[part] = "other"
        seen[:] = [mine, tuple(other)]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    first = SimpleNamespace(world_size=2, datamodule=data, is_global_zero=True)
    if part is None:
        SameData().setup(first, None, "fit")
        return
    with pytest.raises(UserError, match=rf"process 1 on .* sees other {what} than process 0"):
        SameData().setup(first, None, "fit")
    with pytest.raises(SystemExit):
        SameData().setup(SimpleNamespace(**vars(first) | {"is_global_zero": False}), None, "fit")
