"""A tiny data set of real files, and the command line on it."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_pl.evaluation import embedding
from gfnet_pl.training import precision

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # the first map would set OpenMP's number, and so torch's, to all cores
torch.set_num_threads(1)  # tiny nets: threads would only wait for each other

CLASSES = ("ant", "bee", "Cat")
TINY_NET = ["--model.image_size=16", "--model.patch_size=4", "--model.dim=16", "--model.depth=2"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]


def write_picture(path: Path, label: str, number: int) -> None:
    """16 x 16 grey noise with a bar whose place tells the class."""
    pixels = np.random.default_rng(number).integers(0, 80, (16, 16), dtype=np.uint8)
    start = 2 + 5 * CLASSES.index(label)
    pixels[start : start + 3] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session", autouse=True)
def flat_maps() -> Iterator[None]:
    """Principal components in place of UMAP, which compiles itself for seconds in each process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "NEIGHBOURS", sys.maxsize)
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded pictures go where the test's other files go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command measures which precision is faster: a test gives the same on every machine."""
    monkeypatch.setattr(precision, "product_rates", lambda dim, hidden: precision.Rates(1e9, 1e9))


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """A shell lets what it runs in the background ignore some signals, and the suite may be that."""
    usual = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
    numbers = {getattr(signal, name): handler for name, handler in usual.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with 20 training, 4 test and 5 unseen pictures in each of three classes."""
    root = tmp_path / "pictures"
    for offset, split, count in ((0, "Train", 20), (1000, "Test", 4), (2000, "Unseen", 5)):
        for number, label in enumerate(CLASSES):
            for index in range(count):
                write_picture(root / split / label / f"{index:02}.png", label, offset + 100 * number + index)
    return root


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, where runs are written."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    return folder


@pytest.fixture
def tiny(pictures: Path, workplace: Path) -> list[str]:
    """`gfnet fit` with these options trains a tiny net on the tiny data in about a second."""
    data = [f"--data.root={pictures}", "--data.batch_size=16", "--data.holdout_per_class=2"]
    return ["fit", "--config=base.yaml", *TINY_NET, *QUIET, *data, "--trainer.max_epochs=2", "--model.warmup_epochs=1"]
