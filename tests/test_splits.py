import hashlib
import logging
from collections import Counter, defaultdict

import pytest

from gfnet_pl.data.layouts import Picture
from gfnet_pl.data.splits import SplitRule, draw_splits, read_splits, write_splits
from gfnet_pl.errors import UserError

POOL = [Picture(f"{label}/{number:03}.png", label, "train", "") for label in "ab" for number in range(50)]
ASKED = {"val_fraction": 0.1, "holdout_per_class": 4, "train_per_class": None, "seed": 1}
BY_GROUP = ASKED | {"split_by": "group"}


def draw(pictures, *, seed, **rule):
    return draw_splits(pictures, SplitRule(**rule), seed=seed)


def signers(count, frames=6, labels="abc"):
    """Groups over all classes."""
    return [
        Picture(f"{label}/s{signer}_{frame}.png", label, "train", f"s{signer}")
        for label in labels
        for signer in range(count)
        for frame in range(frames)
    ]


def blocks(count, length=10, labels="abc"):
    """Groups inside one class."""
    return [
        Picture(f"{label}/{number}.png", label, "train", f"{label}/block{number // length:03}")
        for label in labels
        for number in range(count * length)
    ]


def counts(pictures):
    return Counter((picture.label, picture.split) for picture in pictures)


def splits_of_groups(pictures):
    found = defaultdict(set)
    for picture in pictures:
        found[picture.group].add(picture.split)
    return found


def moves(before, after, **asked):
    """How many of the old pictures changed from which split to which."""
    old, new = ({p.path: p.split for p in draw(pictures, **asked)} for pictures in (before, after))
    return Counter((old[path], new[path]) for path in old if old[path] != new[path])


# By image


def test_every_class_is_split_alike_and_every_picture_once():
    drawn = draw(POOL, **ASKED)
    assert counts(drawn) == {(c, s): n for c in "ab" for s, n in (("val", 5), ("holdout", 4), ("train", 41))}
    assert sorted(picture.path for picture in drawn) == sorted(picture.path for picture in POOL)


def test_the_draw_depends_on_the_seed_and_not_on_the_listing():
    drawn = draw(POOL, **ASKED)
    assert draw(POOL[::-1], **ASKED) == drawn
    assert draw(POOL, **ASKED | {"seed": 2}) != drawn


def test_the_draw_is_the_order_of_sha256_over_seed_and_path_so_that_old_runs_can_be_drawn_again():
    drawn = {picture.path: picture.split for picture in draw(POOL, **ASKED | {"train_per_class": 40})}
    order = sorted(
        (picture.path for picture in POOL if picture.label == "a"),
        key=lambda path: hashlib.sha256(f"1/{path}".encode()).digest(),
    )
    assert [drawn[path] for path in order] == ["holdout"] * 4 + ["val"] * 5 + ["train"] * 40 + ["unused"]


def test_train_per_class_leaves_the_rest_unused():
    drawn = draw(POOL, **ASKED | {"train_per_class": 10})
    assert counts(drawn)["a", "train"] == 10
    assert counts(drawn)["a", "unused"] == 31


def test_provided_splits_stay_and_a_provided_val_is_the_only_one():
    provided = [Picture("v/1.png", "a", "val", ""), Picture("t/1.png", "b", "test", "")]
    for asked in (ASKED, BY_GROUP):
        drawn = draw([*blocks(5, labels="ab"), *provided], **asked)
        assert [picture for picture in drawn if picture.split in ("val", "test")] == sorted(provided)


def test_a_small_class_has_one_picture_for_validation_at_least():
    drawn = draw(POOL[:3], **ASKED | {"holdout_per_class": 0})
    assert counts(drawn) == {("a", "val"): 1, ("a", "train"): 2}


def test_holdout_is_what_was_asked_while_a_third_is_left_to_train_on_and_else_a_fifth(caplog):
    caplog.set_level(logging.INFO)
    kept = draw(POOL, **ASKED | {"holdout_per_class": 28})
    assert counts(kept) == {(c, s): n for c in "ab" for s, n in (("val", 5), ("holdout", 28), ("train", 17))}
    assert not caplog.messages
    few = [Picture(f"c/{number}.png", "c", "train", "") for number in range(100)]
    drawn = draw(POOL + few, **ASKED | {"holdout_per_class": 29})
    assert counts(drawn) == {(c, s): n for c in "ab" for s, n in (("val", 5), ("holdout", 10), ("train", 35))} | {
        ("c", "val"): 10,
        ("c", "holdout"): 29,
        ("c", "train"): 61,
    }
    assert caplog.messages == [
        "data.holdout_per_class 29 would leave too little to train on in 2 of 3 classes: 10 of each are held out"
    ]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("asked", [{}, {"holdout_per_class": 200}, {"val_fraction": 0.9}])
def test_every_class_of_two_pictures_or_more_is_trained_on_and_validated(count, asked):
    pool = [Picture(f"{label}/{number}.png", label, "train", "") for label in "ab" for number in range(count)]
    drawn = counts(draw(pool, seed=1, **asked))
    assert all(drawn[label, split] >= 1 for label in "ab" for split in ("train", "val"))


def test_a_class_of_one_picture_is_trained_on_only_and_named(caplog):
    single = [Picture(f"{number}/1.png", f"{number}", "train", "") for number in range(7)]
    drawn = draw(POOL + single, seed=1)
    assert {picture.split for picture in drawn if picture.label.isdigit()} == {"train"}
    words = "classes with one picture, which is trained on and never evaluated: '0', '1', '2', '3', '4' and 2 more"
    assert caplog.messages == [words + "; add pictures of them"]
    with pytest.raises(UserError, match="no class has two training pictures"):
        draw(single, seed=1)
    caplog.clear()
    draw([*single, Picture("v/1.png", "1", "val", "")], seed=1)
    assert not caplog.messages


def test_by_image_groups_are_kept_but_do_not_matter():
    ungrouped = draw([picture._replace(group="") for picture in signers(10)], **ASKED)
    drawn = draw(signers(10), **ASKED)
    assert [picture._replace(group="") for picture in drawn] == ungrouped
    assert all(picture.group for picture in drawn)


def test_ten_percent_more_pictures_move_one_percent_of_the_old_ones_and_none_from_holdout_to_train():
    before = [Picture(f"{label}/{n}.png", label, "train", "") for label in "abcd" for n in range(1000)]
    after = before + [Picture(f"{label}/{n}.png", label, "train", "") for label in "abcd" for n in range(1000, 1100)]
    for seed in range(5):
        moved = moves(before, after, **ASKED | {"holdout_per_class": 50, "seed": seed})
        assert 0 < moved.total() <= 0.015 * len(before)
        assert moved["holdout", "train"] == moved["train", "holdout"] == 0
        assert moved["val", "train"] <= 0.08 * 400


# By group


@pytest.mark.parametrize("make", [signers, blocks])
def test_by_group_no_group_is_in_two_splits_and_classes_get_what_was_asked_plus_less_than_a_group(make):
    pictures = make(30)
    for seed in range(10):
        drawn = draw(pictures, **BY_GROUP | {"seed": seed, "holdout_per_class": 20})
        assert all(len(splits) == 1 for splits in splits_of_groups(drawn).values())
        size = 6 if make is signers else 10
        members = Counter(picture.label for picture in pictures)
        for label in "abc":
            assert 20 <= counts(drawn)[label, "holdout"] < 20 + size
            wanted = round(0.1 * members[label])
            assert wanted <= counts(drawn)[label, "val"] < wanted + size
        assert sorted(picture[:2] for picture in drawn) == sorted(picture[:2] for picture in pictures)


def test_by_group_the_draw_depends_on_the_seed_and_not_on_the_listing():
    pictures = signers(30) + blocks(30, labels="de")
    drawn = draw(pictures, **BY_GROUP)
    assert draw(pictures[::-1], **BY_GROUP) == drawn
    assert draw(pictures, **BY_GROUP | {"seed": 2}) != drawn


def test_by_group_train_per_class_thins_by_image():
    drawn = draw(signers(30), **BY_GROUP | {"train_per_class": 50})
    full = draw(signers(30), **BY_GROUP)
    assert [counts(drawn)[label, "train"] for label in "abc"] == [50] * 3
    assert len({picture.group for picture in drawn if picture.split == "train"}) > 20
    evaluated = ("val", "holdout")
    assert [p for p in drawn if p.split in evaluated] == [p for p in full if p.split in evaluated]


def test_by_group_a_class_never_loses_its_last_group_to_another_class():
    lonely = [Picture(f"z/{n}.png", "z", "train", f"s{n % 3}") for n in range(30)]
    for seed in range(20):
        asked = BY_GROUP | {"seed": seed, "holdout_per_class": 1, "val_fraction": 0.3}
        drawn = draw(signers(8) + lonely, **asked)
        assert counts(drawn)["z", "train"] == counts(drawn)["z", "val"] == counts(drawn)["z", "holdout"] == 10


def test_too_few_groups_drop_the_holdout_set_and_then_name_the_class(caplog):
    caplog.set_level(logging.INFO)
    drawn = counts(draw(blocks(2, labels="a") + blocks(30, labels="b"), **BY_GROUP))
    assert {split: drawn["a", split] for split in ("train", "val", "holdout")} == {"train": 10, "val": 10, "holdout": 0}
    assert "in 2 of 2 classes: 0 of each are held out" in caplog.text
    message = r"class 'a' has 10 pictures in 1 groups: too few for 1 val and at least one group to train on"
    with pytest.raises(UserError, match=message):
        draw(blocks(1, labels="a") + blocks(30, labels="b"), **BY_GROUP)


def test_ten_percent_more_groups_move_few_old_pictures_and_more_pictures_of_the_same_groups_none():
    before = signers(64)
    for seed in range(5):
        asked = BY_GROUP | {"seed": seed, "holdout_per_class": 0}
        assert moves(before, signers(70), **asked).total() <= 2 / 64 * len(before)
        assert moves(before, signers(64, frames=7), **asked).total() == 0


def test_by_group_provided_pictures_of_training_groups_are_kept_with_a_warning(caplog):
    provided = [Picture(f"t/{n}.png", "a", "test", f"s{n}") for n in range(10)]
    provided += [Picture("t/x.png", "a", "test", ""), Picture("t/y.png", "a", "test", "nobody")]
    with caplog.at_level(logging.WARNING):
        drawn = draw(signers(10) + provided, **BY_GROUP)
    trained = {picture.group for picture in drawn if picture.split == "train"}
    assert 0 < len(trained) < 10
    assert f"{len(trained)} of the 12 pictures of the provided test set" in caplog.text
    assert sum(picture.split == "test" for picture in drawn) == 12


def test_provided_pictures_of_other_groups_and_draws_by_image_warn_of_nothing(caplog):
    provided = [Picture("t/1.png", "a", "test", "somebody else"), Picture("t/2.png", "a", "test", "")]
    draw(signers(10) + provided, **BY_GROUP)
    draw([*signers(10), Picture("t/3.png", "a", "test", "s1")], **ASKED)
    assert not caplog.records


# Unseen groups


@pytest.mark.parametrize("asked", [ASKED, BY_GROUP])
def test_unseen_groups_are_whole_and_in_no_other_split(asked):
    drawn = draw(signers(30), **asked, unseen_groups=3)
    unseen = {group for group, splits in splits_of_groups(drawn).items() if "unseen" in splits}
    assert len(unseen) == 3
    assert all(splits_of_groups(drawn)[group] == {"unseen"} for group in unseen)
    assert counts(drawn)["a", "unseen"] == 18
    if asked is ASKED:
        assert counts(drawn)["a", "val"] == round(0.1 * 27 * 6)


def test_unseen_groups_are_the_first_in_the_order_of_the_seed_so_that_one_more_moves_no_other():
    def unseen(pictures, count, seed=1):
        drawn = draw(pictures, **ASKED | {"seed": seed}, unseen_groups=count)
        return {picture.group for picture in drawn if picture.split == "unseen"}

    assert unseen(signers(30), 2) < unseen(signers(30), 3)
    assert unseen(signers(30)[::-1], 3) == unseen(signers(30), 3) != unseen(signers(30), 3, seed=2)
    assert len(unseen(signers(30), 3) - unseen(signers(31), 3)) <= 1


def test_values_out_of_range_are_named():
    for name, value in (("unseen_groups", -1), ("holdout_per_class", -1), ("train_per_class", 0), ("val_fraction", 1)):
        with pytest.raises(UserError, match=rf"data.{name} is {value}: it must"):
            SplitRule(**{name: value})


@pytest.mark.parametrize("count", [5, 6])
def test_too_many_unseen_groups_are_refused(count):
    with pytest.raises(UserError, match=rf"data.unseen_groups is {count}: the training pictures have 5 groups"):
        draw(signers(5), **ASKED, unseen_groups=count)


@pytest.mark.parametrize("asked", [ASKED, BY_GROUP])
def test_unseen_groups_leave_every_class_something_to_train_on(asked):
    pictures = [*signers(30), *(Picture(f"z/{n}.png", "z", "train", f"s{n % 2 + 1}") for n in range(30))]
    most = 29 if asked is ASKED else 28
    for seed in range(5):
        drawn = draw(pictures, **asked | {"seed": seed, "holdout_per_class": 0}, unseen_groups=most)
        assert (
            {p.label for p in drawn if p.split == "train"}
            == {p.label for p in drawn if p.split == "val"}
            == set("abcz")
        )
    with pytest.raises(
        UserError, match=rf"data.unseen_groups is {most + 1}: the training pictures have 30 groups, and "
    ):
        draw(pictures, **asked, unseen_groups=most + 1)


@pytest.mark.parametrize(
    ("asked", "option"), [({"split_by": "group"}, "data.split_by group"), ({"unseen_groups": 1}, "data.unseen_groups")]
)
def test_training_pictures_without_a_group_are_refused_where_groups_are_needed(asked, option):
    with pytest.raises(UserError, match=rf"{option} needs groups, and 100 training.* a/000.png; give data.group_by"):
        draw(signers(9) + POOL, **ASKED | asked)


def test_split_by_something_else_is_refused():
    with pytest.raises(UserError, match=r"data.split_by is 'signer': it must be image or group"):
        draw(POOL, **ASKED, split_by="signer")


# The file


def test_written_splits_are_read_back(tmp_path):
    pictures = [Picture('ü "x", y/1.png', "ü, x", "train", "s,1"), Picture("b/2.png", "b", "unused", "")]
    write_splits(tmp_path / "splits.csv", pictures)
    assert read_splits(tmp_path / "splits.csv") == sorted(pictures)
    assert (
        (tmp_path / "splits.csv").read_text(encoding="utf-8").startswith("path,label,split,group\nb/2.png,b,unused,\n")
    )


@pytest.mark.parametrize("asked", [ASKED | {"train_per_class": 3}, BY_GROUP | {"unseen_groups": 2}])
def test_a_draw_comes_back_from_its_file_in_the_same_order(tmp_path, asked):
    drawn = draw(signers(30), **asked)
    write_splits(tmp_path / "splits.csv", drawn)
    assert read_splits(tmp_path / "splits.csv") == drawn


def test_a_file_of_an_older_run_without_groups_is_read(tmp_path):
    (tmp_path / "s.csv").write_text("path,label,split\na/1.png,a,holdout\n")
    assert read_splits(tmp_path / "s.csv") == [Picture("a/1.png", "a", "holdout", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("", r"has the columns \(none\); expected path,label,split,group"),
        ("path,label\na,b\n", "has the columns path,label; expected"),
        ("path,label,split\na,b\n", "line 2: 2 values for 3 columns"),
        (
            "path,label,split\na,b,tarin\n",
            "line 2: no split 'tarin'; there are train, val, test, holdout, dev, unseen, unused",
        ),
        ("path,label,split\na,b,train\na,b,val\n", "line 3: a stands in line 2 already"),
        ("path,label,split\n../a,b,train\n", r"line 2: \.\./a leads out of the folder"),
        ("a,b,c\na,b,train\n", "has a column 'a'"),
    ],
)
def test_a_file_that_is_no_splits_table_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match="data.splits: .*" + message):
        read_splits(tmp_path / "s.csv")
