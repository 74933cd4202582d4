from collections import Counter

import pytest

from gfnet_pl.data.layouts import Picture
from gfnet_pl.data.splits import draw_splits, read_splits, write_splits
from gfnet_pl.errors import UserError

POOL = [Picture(f"{label}/{number:03}.png", label, "train") for label in "ab" for number in range(50)]
ASKED = {"val_fraction": 0.1, "holdout_per_class": 4, "train_per_class": None, "seed": 1}


def counts(pictures):
    return Counter((picture.label, picture.split) for picture in pictures)


def test_every_class_is_split_alike_and_every_picture_once():
    drawn = draw_splits(POOL, **ASKED)
    assert counts(drawn) == {(c, s): n for c in "ab" for s, n in (("val", 5), ("holdout", 4), ("train", 41))}
    assert sorted(picture.path for picture in drawn) == sorted(picture.path for picture in POOL)


def test_the_draw_depends_on_the_seed_and_not_on_the_listing():
    drawn = draw_splits(POOL, **ASKED)
    assert draw_splits(POOL[::-1], **ASKED) == drawn
    assert draw_splits(POOL, **ASKED | {"seed": 2}) != drawn


def test_train_per_class_leaves_the_rest_unused():
    drawn = draw_splits(POOL, **ASKED | {"train_per_class": 10})
    assert counts(drawn)["a", "train"] == 10
    assert counts(drawn)["a", "unused"] == 31


def test_provided_splits_stay_and_a_provided_val_is_the_only_one():
    provided = [Picture("v/1.png", "a", "val"), Picture("t/1.png", "b", "test")]
    drawn = draw_splits(POOL + provided, **ASKED)
    assert [picture for picture in drawn if picture.split in ("val", "test")] == sorted(provided)


def test_too_few_pictures_names_the_class_and_the_counts():
    with pytest.raises(UserError, match=r"class 'a' has 50 pictures: too few for 5 val, 45 holdout"):
        draw_splits(POOL, **ASKED | {"holdout_per_class": 45})


def test_written_splits_are_read_back(tmp_path):
    pictures = [Picture('ü "x", y/1.png', "ü, x", "train"), Picture("b/2.png", "b", "unused")]
    write_splits(tmp_path / "splits.csv", pictures)
    assert read_splits(tmp_path / "splits.csv") == sorted(pictures)


def test_a_draw_comes_back_from_its_file_in_the_same_order(tmp_path):
    drawn = draw_splits(POOL, **ASKED)
    write_splits(tmp_path / "splits.csv", drawn)
    assert read_splits(tmp_path / "splits.csv") == drawn


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("", "cannot be read"),
        ("path,label\na,b\n", "cannot be read"),
        ("path,label,split\na,b\n", "cannot be read"),
        ("path,label,split\na,b,tarin\n", "is not a splits.csv"),
        ("a,b,c\na,b,train\n", "is not a splits.csv"),
    ],
)
def test_a_file_that_is_no_splits_table_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_splits(tmp_path / "s.csv")
