import re

import numpy as np
import pytest
import torch
from conftest import CLASSES, write_picture
from PIL import Image

from gfnet_pl.data.datamodule import ImageDataModule, find_pictures
from gfnet_pl.data.splits import write_splits
from gfnet_pl.errors import UserError


def module(root, **options):
    return ImageDataModule(str(root), image_size=16, batch_size=16, seed=1, **options)


def test_batches_are_grey_uint8_with_the_labels_of_their_files(pictures):
    data = module(pictures)
    data.setup("test")
    assert data.classes == sorted(CLASSES)
    (batch,) = data.test_dataloader()[data.evaluated.index("test")]
    assert batch.images.shape == (12, 1, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.dtype == torch.int64
    files = [picture for picture in data.pictures if picture.split == "test"]
    for image, label, picture in zip(batch.images, batch.labels, files, strict=True):
        assert data.classes[label] == picture.label
        np.testing.assert_array_equal(image[0], np.asarray(Image.open(pictures / picture.path)))


def test_a_training_epoch_is_every_training_image_once_in_another_order_each_epoch(pictures):
    data = module(pictures)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        epochs.append(torch.cat([batch.images for batch in loader]).flatten(1).tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(data.sets["train"].images.flatten(1).tolist())
    assert epochs[0] != epochs[1]


def test_balanced_training_draws_rare_classes_as_often(pictures):
    for extra in range(100):
        write_picture(pictures / "Train" / "ant" / f"extra{extra}.png", "ant", 5000 + extra)
    data = module(pictures, balanced=True)
    data.setup("fit")
    counts = torch.bincount(torch.cat([batch.labels for batch in data.train_dataloader()]))
    assert counts.max() - counts.min() <= 1


def test_normalisation_is_of_the_training_split_alone(pictures):
    data = module(pictures, holdout_per_class=3)
    data.setup("fit")
    training = np.stack(
        [np.asarray(Image.open(pictures / picture.path)) for picture in data.pictures if picture.split == "train"]
    )
    mean, std = data.normalisation()
    assert mean == pytest.approx([training.mean()])
    assert std == pytest.approx([training.std()])


def test_splits_of_a_run_are_read_and_not_drawn(pictures, tmp_path):
    first = module(pictures, holdout_per_class=3)
    first.setup("fit")
    write_splits(tmp_path / "splits.csv", first.pictures)
    write_picture(pictures / "Train" / "ant" / "new.png", "ant", 1)
    second = module(pictures, splits=str(tmp_path / "splits.csv"))
    second.setup("fit")
    assert sorted(second.pictures) == sorted(first.pictures)


def test_a_picture_of_the_splits_that_is_gone_is_named(pictures, tmp_path):
    first = module(pictures)
    first.setup("fit")
    write_splits(tmp_path / "splits.csv", first.pictures)
    gone = next(picture for picture in first.pictures if picture.split == "train")
    (pictures / gone.path).unlink()
    with pytest.raises(UserError, match=f"{gone.path} does not exist"):
        module(pictures, splits=str(tmp_path / "splits.csv")).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "data.val_fraction is 0.0"),
        ({"holdout_per_class": -1}, "data.holdout_per_class is -1"),
        ({"train_per_class": 0}, "data.train_per_class is 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UserError, match=message):
        module("x", **options)


def test_pictures_to_predict_are_files_folders_and_globs(pictures):
    folder, glob = pictures / "Test" / "ant", str(pictures / "Unseen" / "*" / "00.png")
    single = pictures / "Test" / "bee" / "01.png"
    found = find_pictures([str(folder), glob, str(single)])
    assert found[:4] == sorted(folder.iterdir())
    assert [path.parent.name for path in found[4:7]] == ["Cat", "ant", "bee"]
    assert found[7:] == [single]


@pytest.mark.parametrize("path", ["nothing/*.png", "nowhere.png"])
def test_a_path_without_pictures_is_named(path):
    with pytest.raises(UserError, match=f"no picture at {re.escape(path)}"):
        find_pictures([path])
