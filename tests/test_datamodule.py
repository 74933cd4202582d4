import pickle
import re

import numpy as np
import pytest
import torch
from conftest import CLASSES, write_picture
from lightning.pytorch import Trainer
from PIL import Image

from gfnet_pl.data.augment import Augment
from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.data.named import find_pictures
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
    assert sorted(epochs[0]) == sorted(epochs[1]) == trained_on(data)
    assert epochs[0] != epochs[1]


def trained_on(data):
    training = data.sets["train"]
    return sorted(training.images[training.rows].reshape(len(training), -1).tolist())


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
    some = module(pictures, splits=str(tmp_path / "splits.csv"), classes=["bee", "ant"])
    some.setup("fit")
    assert sorted(some.pictures) == sorted(picture for picture in first.pictures if picture.label != "Cat")
    with pytest.raises(UserError, match=r"splits\.csv has no picture of the class 'dog'"):
        module(pictures, splits=str(tmp_path / "splits.csv"), classes=["bee", "dog"]).setup("fit")


def test_a_picture_of_the_splits_that_is_gone_is_left_out_and_named(pictures, tmp_path, caplog):
    first = module(pictures)
    first.setup("fit")
    write_splits(tmp_path / "splits.csv", first.pictures)
    gone = next(picture for picture in first.pictures if picture.split == "train")
    (pictures / gone.path).unlink()
    data = module(pictures, splits=str(tmp_path / "splits.csv"))
    data.setup("fit")
    assert data.left_out == [(gone.path, "it is gone")]
    assert f"1 of 87 pictures are gone and left out (1 train): {gone.path}" in caplog.messages
    pictures.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="pictures does not exist; if the pictures have moved"):
        module(pictures, splits=str(tmp_path / "splits.csv")).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "data.val_fraction is 0.0"),
        ({"holdout_per_class": -1}, "data.holdout_per_class is -1"),
        ({"train_per_class": 0}, "data.train_per_class is 0"),
        ({"epoch_size": 0}, "data.epoch_size is 0"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"unseen_groups": -1}, "data.unseen_groups is -1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UserError, match=message):
        module("x", **options)


def test_a_worker_that_is_spawned_gets_the_rows_of_its_set_and_no_more(pictures):
    data = module(pictures)
    data.setup("fit")
    loader = data.val_dataloader()
    again = pickle.loads(pickle.dumps(loader.dataset))
    assert len(again.images) == len(again) == 6 < len(loader.dataset.images)
    for one, other in zip([again[draw] for draw in loader.sampler], loader, strict=True):
        torch.testing.assert_close(one, other)


def test_one_class_alone_is_nothing_to_learn_from(pictures):
    with pytest.raises(UserError, match="pictures has one class, 'ant': there is nothing to tell it from; add"):
        module(pictures, classes=["ant"]).setup("fit")


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


def draw_all(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_chosen_classes_come_in_their_order(pictures):
    data = module(pictures, classes=["bee", "ant"])
    data.setup("fit")
    assert data.classes == ["bee", "ant"]
    assert {picture.label for picture in data.pictures} == {"bee", "ant"}
    assert set(data.sets["train"].labels.tolist()) == {0, 1}


def test_chosen_classes_are_found_however_their_accents_are_coded(tmp_path):
    for name in ("\u00e4", "o"):  # one code point on disk, two in the option
        for index in range(3):
            write_picture(tmp_path / name / f"{index}.png", "ant", index)
    data = module(tmp_path, classes=["o", "a\u0308"])
    data.setup("fit")
    assert set(data.sets["train"].labels.tolist()) == {0, 1}


def test_whole_groups_are_kept_for_validation_and_as_unseen(pictures):
    data = module(pictures, group_by=r"/(\d)\d\.png", split_by="group", unseen_groups=0)
    data.setup("fit")
    groups = {split: {p.group for p in data.pictures if p.split == split} for split in ("train", "val")}
    assert len(groups["train"]) == len(groups["val"]) == 1  # 00 to 09, and 10 to 19
    assert not groups["train"] & groups["val"]
    for path in (pictures / "Unseen").rglob("*.png"):
        path.unlink()
    (pictures / "Unseen").rename(pictures / ".Unseen")
    apart = module(pictures, group_by=r"/(\d)\d\.png", unseen_groups=1)
    apart.setup("fit")
    unseen = {p.group for p in apart.pictures if p.split == "unseen"}
    assert len(unseen) == 1
    assert not unseen & {p.group for p in apart.pictures if p.split in ("train", "val")}


def test_near_duplicates_are_groups(pictures):
    for label in CLASSES:
        for index in range(20):
            original = pictures / "Train" / label / f"{index:02}.png"
            Image.open(original).save(original.with_name(f"copy{index:02}.png"))
    data = module(pictures, group_by="near-duplicates", split_by="group")
    data.setup("fit")
    split = {picture.path: picture.split for picture in data.pictures}
    for path, where in split.items():
        if "copy" in path:
            assert split[path.replace("copy", "")] == where


def leak_warnings(data, caplog):
    caplog.clear()
    data.setup("fit")
    return [message for message in caplog.messages if "near twin" in message]


def test_a_random_split_of_near_twins_is_warned_of_and_a_split_by_group_is_not(pictures, caplog):
    for label in CLASSES:
        for index in range(20):
            original = pictures / "Train" / label / f"{index:02}.png"
            Image.open(original).save(original.with_name(f"copy{index:02}.png"))
    (warning,) = leak_warnings(module(pictures), caplog)
    assert re.match(r"at least \d+\.\d % of the validation pictures have a near twin in training", warning)
    assert not leak_warnings(module(pictures, group_by="near-duplicates", split_by="group"), caplog)


def test_broken_pictures_end_the_command_or_are_left_out_and_listed(pictures):
    for name in ("03.png", "07.png"):
        (pictures / "Train" / "bee" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 broken pictures: Train/bee/03.png .*Train/bee/07.png .*on_broken skip"):
        module(pictures).setup("fit")
    data = module(pictures, on_broken="skip")
    data.setup("fit")
    assert [path for path, _ in data.left_out] == ["Train/bee/03.png", "Train/bee/07.png"]
    paths = {picture.path for picture in data.pictures}
    assert "Train/bee/02.png" in paths
    assert not paths & {"Train/bee/03.png", "Train/bee/07.png"}
    images = np.concatenate([batch.images for batch in draw_all(data)])
    assert len(images) == len(data.sets["train"]) == 58 - 6


def test_links_that_lead_nowhere_are_broken_pictures(pictures):
    (pictures / "Train" / "ant" / "gone.png").symlink_to("nowhere.png")
    (pictures / "Train" / "bee" / "self.png").symlink_to("self.png")
    with pytest.raises(UserError, match=r"gone.png \(it is a link to nothing\), .*self.png \(.* leads to itself\)"):
        module(pictures).setup("fit")
    data = module(pictures, on_broken="skip")
    data.setup("fit")
    assert [path for path, _ in data.left_out] == ["Train/ant/gone.png", "Train/bee/self.png"]


def test_broken_pictures_of_a_chosen_split_are_left_out_too(pictures, tmp_path):
    first = module(pictures)
    first.setup("fit")
    write_splits(tmp_path / "splits.csv", first.pictures)
    gone = next(picture.path for picture in first.pictures if picture.split == "val")
    (pictures / gone).write_bytes(b"no picture")
    data = module(pictures, splits=str(tmp_path / "splits.csv"), on_broken="skip")
    data.setup("fit")
    assert gone not in {picture.path for picture in data.pictures}
    assert len(data.sets["val"]) == len(first.sets["val"]) - 1


def test_a_class_of_broken_pictures_only_is_named(pictures):
    for path in (pictures / "Train" / "bee").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="all training pictures of class bee are broken"):
        module(pictures, on_broken="skip").setup("fit")


def test_emphasised_classes_come_more_often_and_the_repeats_are_told(pictures, caplog):
    caplog.set_level("INFO")
    data = module(pictures, balanced=True, class_emphasis={"Cat": 2.0}, epoch_size=400)
    data.setup("fit")
    counts = torch.bincount(torch.cat([batch.labels for batch in draw_all(data)])).tolist()
    assert counts == [200, 100, 100]
    assert "Cat 200 (11x), ant 100 (5.6x), bee 100 (5.6x)" in caplog.text


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"device_cache": True}])
def test_workers_and_a_copy_on_the_device_give_the_same_batches(pictures, options):
    plain, other = module(pictures), module(pictures, **options)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for data in (plain, other):
        data.trainer = trainer
        data.setup("fit")
    for epoch in (0, 1):
        for one, same in zip(draw_all(plain, epoch), draw_all(other, epoch), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert (other.sets["train"].copy is not None) == other.device_cache


def test_only_training_images_are_augmented(pictures):
    data = module(pictures, augment=Augment(brightness=0.5))
    data.setup("fit")
    batch = draw_all(data)[0]
    changed = data.on_after_batch_transfer(batch, 0)
    assert changed.images.dtype == torch.float32
    assert not torch.equal(changed.images, batch.images.float())
    assert torch.equal(changed.images, data.on_after_batch_transfer(batch, 0).images)
    (scored,) = data.val_dataloader()
    assert data.on_after_batch_transfer(scored, 0) is scored


def test_a_second_run_decodes_nothing(pictures, caplog):
    caplog.set_level("INFO")
    module(pictures).setup("fit")
    assert "decoded" in caplog.text
    caplog.clear()
    module(pictures, holdout_per_class=2).setup("fit")
    assert "decoded" not in caplog.text


def test_a_root_below_the_current_folder_is_named_from_there(pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert ImageDataModule("pictures").source == "pictures"
    monkeypatch.chdir(pictures / "Train")
    assert ImageDataModule(str(pictures)).source == str(pictures)
