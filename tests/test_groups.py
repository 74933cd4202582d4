import random
from collections import Counter, defaultdict

import pytest

from gfnet_pl.data.groups import assign_groups
from gfnet_pl.data.layouts import Picture
from gfnet_pl.errors import UserError


def pool(*paths, split="train"):
    return [Picture(path, path.split("/")[0], split, "") for path in paths]


def groups(pictures):
    return {picture.path: picture.group for picture in pictures}


def runs(pictures):
    """The paths of each group, in the order of the pictures."""
    found = defaultdict(list)
    for picture in pictures:
        found[picture.group].append(picture.path)
    return dict(found)


# Regular expressions


def test_the_first_bracket_of_an_expression_is_the_group_across_classes():
    pictures = pool("A/signer003_frame05.png", "A/signer004_frame05.png", "B/signer003_frame01.png")
    assert [picture.group for picture in assign_groups(pictures, r"(signer\d+)_(frame)")] == [
        "signer003",
        "signer004",
        "signer003",
    ]


def test_a_bracket_named_group_goes_before_the_first():
    (picture,) = assign_groups(pool("A/cam1_anna_2.png"), r"(cam\d)_(?P<group>[a-z]+)")
    assert picture == Picture("A/cam1_anna_2.png", "A", "train", "anna")


def test_the_expression_is_searched_in_the_whole_path():
    assert [picture.group for picture in assign_groups(pool("A/day 7/1.png"), "/(day [0-9])/")] == ["day 7"]


@pytest.mark.parametrize("rule", ["(s[0-9])", "A/(s[0-9])?", "A/(s[0-9]|)"])
def test_training_pictures_without_a_group_are_counted_and_the_first_is_named(rule):
    pictures = pool("A/s1.png", "A/x.png", "A/y.png")
    with pytest.raises(UserError, match=r"data.group_by: .* finds no group in 2 of the training pictures.* A/x.png"):
        assign_groups(pictures, rule)


def test_provided_test_pictures_may_be_without_a_group():
    pictures = pool("A/s1.png") + pool("A_test.png", split="test")
    assert [picture.group for picture in assign_groups(pictures, "(s[0-9])")] == ["s1", ""]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("(signer", r"data.group_by: '\(signer' is no regular expression"),
        ("signer", "data.group_by: 'signer' does not say which part is the group"),
        ("block", "or give blocks or near-duplicates"),
        ("(?:s)", "does not say which part"),
    ],
)
def test_a_rule_that_is_none_is_named(rule, message):
    with pytest.raises(UserError, match=message):
        assign_groups(pool("A/signer1.png"), rule)


# Blocks


def test_blocks_are_runs_of_neighbours_in_the_natural_order_of_the_numbers():
    names = [f"A/A{number}.jpg" for number in range(1, 1001)]
    shuffled = random.Random(0).sample(names, len(names))
    found = groups(assign_groups(pool(*shuffled), "blocks"))
    assert [found[name] for name in names] == [f"A/block{position // 50:03}" for position in range(1000)]


def test_the_order_of_the_pictures_is_kept():
    names = [f"A/{number}.png" for number in (3, 1, 2)]
    assert [picture.path for picture in assign_groups(pool(*names), "blocks")] == names


@pytest.mark.parametrize(
    ("count", "length"), [(3000, 50), (999, 20), (400, 20), (399, 10), (100, 5), (40, 2), (39, 1), (3, 1)]
)
def test_small_classes_get_shorter_blocks_so_that_there_are_twenty(count, length):
    found = assign_groups(pool(*(f"A/{number}.png" for number in range(count))), "blocks")
    assert set(Counter(picture.group for picture in found).values()) <= {length, count % length}


def test_blocks_are_of_one_class_and_one_provided_split():
    pictures = pool("A/1.png", "B/1.png") + pool("A/t1.png", split="test")
    assert [picture.group for picture in assign_groups(pictures, "blocks")] == [
        "A/block000",
        "B/block000",
        "test/A/block000",
    ]


def test_a_block_ends_with_its_clip_once_it_is_half_full():
    names = [
        f"A/signer{signer:03}_frame{frame}.png" for signer in range(34) for frame in range(12)
    ]  # 408: blocks of 20
    found = runs(assign_groups(pool(*names), "blocks"))
    assert {len({name.split("_")[0] for name in members}) for members in found.values()} == {1}


def test_short_clips_and_names_without_an_order_share_blocks():
    names = [f"A/{random.Random(number).getrandbits(64):x}.png" for number in range(400)]
    found = runs(assign_groups(pool(*names), "blocks"))
    assert {len(members) for members in found.values()} <= set(range(10, 21))


def test_a_gap_in_the_numbers_ends_no_block():
    names = [f"A/{number}.png" for number in range(0, 4000, 4)]
    assert len(runs(assign_groups(pool(*names), "blocks"))) == 20


def test_folders_below_a_class_are_clips_too():
    names = [f"A/take{take}/{frame}.png" for take in (2, 10) for frame in range(15)]  # 30: blocks of 1
    names += [f"A/take11/{frame}.png" for frame in range(370)]
    found = runs(assign_groups(pool(*names), "blocks"))
    assert found["A/block000"] == names[:15]
    assert found["A/block001"] == names[15:30]


def test_files_added_at_the_end_leave_the_other_blocks_as_they_are():
    before = groups(assign_groups(pool(*(f"A/{number}.png" for number in range(1020))), "blocks"))
    after = groups(assign_groups(pool(*(f"A/{number}.png" for number in range(1200))), "blocks"))
    assert {path: after[path] for path in before} == before


def test_numbers_that_differ_in_leading_zeros_only_do_not_depend_on_the_listing():
    names = [f"A/{'0' * zeros}{number}.png" for number in range(15) for zeros in range(2)]  # blocks of 1
    first = groups(assign_groups(pool(*names), "blocks"))
    assert groups(assign_groups(pool(*names[::-1]), "blocks")) == first


# Near duplicates


def test_near_duplicates_are_grouped_by_their_cluster():
    pictures = pool("A/1.png", "B/1.png", "A/2.png")
    found = assign_groups(pictures, "near-duplicates", lambda: [7, 123, 7])
    assert [picture.group for picture in found] == ["cluster000007", "cluster000123", "cluster000007"]


def test_clusters_are_found_only_when_they_are_asked_for():
    assign_groups(pool("A/1.png"), "blocks", lambda: pytest.fail("called"))


def test_near_duplicates_need_a_cluster_for_each_picture():
    with pytest.raises(ValueError, match="needs the clusters"):
        assign_groups(pool("A/1.png"), "near-duplicates")
    with pytest.raises(ValueError, match="shorter"):
        assign_groups(pool("A/1.png", "A/2.png"), "near-duplicates", lambda: [1])
