"""Pictures that only their colours tell apart, and pictures of other shapes, from the file to the report."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET, TINY_NET
from lightning.pytorch import Trainer
from PIL import Image

from gfnet_pl import GFNetClassifier, ImageDataModule
from gfnet_pl.cli import main
from gfnet_pl.data.augment import Augment
from gfnet_pl.data.decode import read_picture
from gfnet_pl.errors import UserError
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import newest_run

TINTS = {"green": (60, 171, 60), "red": (200, 100, 60)}  # both grey level 125


@pytest.fixture
def coloured(tmp_path):
    """Two classes of noise, equally bright, of 24 x 12 pixels."""
    root = tmp_path / "coloured"
    for split, count in (("train", 24), ("unseen", 4)):
        for label, tint in TINTS.items():
            for number in range(count):
                noise = np.random.default_rng(number).integers(-40, 40, (12, 24, 1))
                path = root / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((noise + tint).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def fit(coloured, workplace):
    data = [f"--data.root={coloured}", "--data.batch_size=8", "--data.val_fraction=0.25", "--data.epoch_size=48"]
    return ["fit", *TINY_NET, *QUIET, *data, "--trainer.max_epochs=4", "--model.lr=0.01", "--model.warmup_epochs=1"]


def unseen(capsys):
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.strip("│ ").startswith("unseen")]
    return row


def test_colour_and_fit_are_the_same_in_fit_test_predict_and_the_report(fit, coloured, capsys):
    augment = ["--data.augment.brightness=0.1", "--data.augment.contrast=0.2", "--data.augment.rotation=10"]
    archive = shutil.make_archive("coloured", "zip", coloured)
    # Without a config, colour is chosen because it tells.
    assert main([*fit, f"--data.root={archive}", "--data.fit=letterbox", *augment]) == 0
    assert f"root: {archive}\n" in (newest_run().path / "config.yaml").read_text()
    checkpoint = Checkpoint.load(newest_run().checkpoint_to_test())
    assert checkpoint.canvas.shape == (16, 16, 3)
    assert checkpoint.canvas.fit == "letterbox"
    assert len(checkpoint.net().mean) == 3
    assert checkpoint.net().mean[0] > checkpoint.net().mean[2] + 40
    capsys.readouterr()
    assert main(["test"]) == 0
    assert "100.0" in unseen(capsys)

    files = sorted(coloured.glob("unseen/*/*.png"))
    assert main(["predict", *map(str, files), "--out=p.csv"]) == 0
    rows = Path("p.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [file.parent.name for file in files]
    assert main(["report"]) == 0
    run = newest_run()
    shown = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", run.report.read_text())
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0])))).std(axis=2).max() > 40
    # The whole way again in Python, without the data module: the same picture, and the same answer.
    model = GFNetClassifier.load_from_checkpoint(run.checkpoint("best.ckpt")).eval()
    pixels = np.full((1, 16, 16, 3), TINTS["red"], np.uint8)
    with torch.no_grad():
        assert model(torch.from_numpy(pixels).permute(0, 3, 1, 2)).argmax() == 1

    for words in (["test", "--data.colour=false"], ["predict", str(files[0]), "--data.fit=crop"]):
        assert main(words) == 2
        assert "drop it" in capsys.readouterr().err
    assert main([*fit, "--stage=other", "--ckpt_path=best.ckpt"]) == 0
    assert Checkpoint.load(newest_run().checkpoint_to_test()).canvas == checkpoint.canvas


def test_by_default_they_are_grey_and_squeezed_and_one_is_told(coloured, caplog):
    caplog.set_level("INFO")
    data = ImageDataModule(str(coloured), image_size=12, val_fraction=0.25)
    data.setup("fit")
    told = "100 % of the pictures are stretched: they are 2 to 2 times as wide as high, and become 12 x 12; --data.fit"
    assert told in caplog.text
    assert "the pictures have colours and become grey; --data.colour true keeps them" in caplog.text
    caplog.clear()
    ImageDataModule(str(coloured), image_size=12, val_fraction=0.25, colour=True, fit="crop").setup("fit")
    assert not re.search("stretched|become grey", caplog.text)
    canvas = data.canvas
    green, red = (read_picture(coloured / "train" / label / "0.png", canvas).astype(int) for label in TINTS)
    assert green.shape == (12, 12)
    np.testing.assert_allclose(green, red, atol=1)


def test_batches_of_colours_have_three_channels(coloured):
    data = ImageDataModule(str(coloured), colour=True, image_size=(12, 24), batch_size=4, val_fraction=0.25)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch.images.shape == (4, 3, 12, 24)
    first = coloured / next(picture.path for picture in data.pictures if picture.split == "val")
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), np.asarray(Image.open(first)))
    mean, deviation = data.normalisation()
    pixels = data._images[data.sets["train"].rows].reshape(-1, 3)
    np.testing.assert_allclose(mean, pixels.mean(0))
    np.testing.assert_allclose(deviation, pixels.std(0))


def test_augmentation_keeps_the_colours_together():
    images = torch.tensor([200.0, 100, 60]).reshape(1, 3, 1, 1).expand(4, 3, 8, 8)
    seeds = torch.arange(4)
    for changes in ({"contrast": 0.5}, {"rotation": 90.0, "scale": 0.2, "shift": 0.2}):
        changed = Augment(**changes)(images, seeds)
        torch.testing.assert_close(changed, images)
    changed = Augment(brightness=0.2)(images, seeds)
    moved = (changed - images)[:, :, 0, 0]
    torch.testing.assert_close(moved, moved[:, :1].expand(-1, 3))
    assert moved.abs().max() > 5


def test_a_net_of_other_channels_than_the_data_is_named(coloured, fit, capsys):
    assert main([*fit, "--data.colour=false", "--model.in_channels=3"]) == 2
    assert "model.in_channels follows data.colour: give that one" in capsys.readouterr().err
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1
    )
    data = ImageDataModule(str(coloured), colour=True, image_size=16, batch_size=8)
    with pytest.raises(UserError, match=r"data.colour is True: the net needs in_channels=3"):
        trainer.fit(GFNetClassifier(image_size=16, patch_size=4, dim=16, depth=1), datamodule=data)
