"""Version 2 of the embedded data: who is in it, what a hand can do, and how it gets into a run."""

import csv
import dataclasses
import itertools
import json
import re

import numpy as np
import pytest

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import collect, named_root
from gfnet_pl.errors import UserError
from gfnet_pl.hand_signs import scene
from gfnet_pl.hand_signs.files import hand_signs_root, write_hand_signs
from gfnet_pl.hand_signs.letters import LETTERS, hand
from gfnet_pl.hand_signs.people import DEV, PROPERTIES, RANGES, TOGETHER, UNSEEN, Signer, signer

SMALL = {"version": 2, "signers": 1, "frames": 2, "unseen_signers": 2, "processes": 1, "progress": False}
USUAL = Signer("right", 0.75, 0.35, 1, 1, 0, 1, 0, 0, 0)
# Means over quarters of a picture, row by row.
QUARTERS = {
    ("A", 0, 1, 0): [91.1, 92.3, 119.1, 93.8],
    ("P", 1003, 2, 20): [196.8, 186.1, 183.6, 191.5],
    ("Nothing", 2000, 1, 0): [55.3, 56.2, 49.7, 56.0],
    ("W", 2011, 2, 0): [162.7, 159.3, 154.4, 162.7],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_hand_signs(tmp_path_factory.mktemp("made") / "signs", **SMALL)


def test_a_folder_of_version_2_has_new_signers_in_two_halves_of_two_clips_each(root):
    found = collect(str(root), canvas=Canvas(96, 96))
    assert found.left_out == []
    pictures = {(p.split, p.group, *map(int, re.findall(r"clip(\d+)_frame(\d+)", p.path)[0])) for p in found.pictures}
    new = {("dev", f"signer{DEV}"), ("unseen", f"signer{UNSEEN}")}
    assert {each for each in pictures if each[0] != "test"} == {
        *(("train", "signer000", 1, frame) for frame in (0, 1)),
        *((*each, clip, frame) for each in new for clip in (1, 2) for frame in (0, 10, 20)),
    }
    record = json.loads((root / "hand_signs.json").read_text())
    assert record["counts"] == {"Train": 56, "Test": 112, "Dev": 168, "Unseen": 168}
    assert write_hand_signs(root, **SMALL) == root
    with pytest.raises(UserError, match="other settings"):
        write_hand_signs(root, **SMALL | {"version": 1})


def test_the_table_says_of_every_signer_what_it_was_drawn_with(root):
    with (root / "signers.csv").open(newline="") as file:
        rows = {row.pop("group"): row for row in csv.DictReader(file)}
    assert list(rows) == ["signer000", f"signer{DEV}", f"signer{UNSEEN}"]
    who = dataclasses.asdict(signer(0, DEV))
    assert rows[f"signer{DEV}"] == {name: str(who[name]) for name in PROPERTIES}
    told = json.loads((root / "signers.json").read_text())
    assert [(each["set"], len(each["clips"])) for each in told] == [("Train", 1), ("Dev", 2), ("Unseen", 2)]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version": 3}, "no version 3"), ({"unseen_signers": 3}, "even number"), ({"signers": 1001}, "at most 1,000")],
)
def test_what_version_2_cannot_be_is_one_line(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        write_hand_signs(tmp_path / "signs", **SMALL | change)


def test_each_version_has_its_usual_size_and_takes_another(tmp_path, monkeypatch):
    monkeypatch.setattr("gfnet_pl.hand_signs.files.cache_folder", lambda: tmp_path)
    monkeypatch.setattr("gfnet_pl.hand_signs.files.write_hand_signs", lambda folder, **size: (folder.name, size))
    assert hand_signs_root()[0] == "hand-signs-v1-64x6-unseen8-seed0"
    name, size = hand_signs_root(version=2)
    assert name == "hand-signs-v2-384x1-unseen32-seed0"
    assert size == {"version": 2, "signers": 384, "frames": 1, "unseen_signers": 32, "seed": 0}
    assert hand_signs_root(version=2, frames=2)[0] == "hand-signs-v2-384x2-unseen32-seed0"
    with pytest.raises(UserError, match="no version 3"):
        hand_signs_root(version=3)


def test_version_2_is_found_by_its_name(root, tmp_path, monkeypatch):
    monkeypatch.setattr("gfnet_pl.data.collection.hand_signs_root", lambda *, version: f"version {version}")
    monkeypatch.chdir(tmp_path)
    assert named_root("hand-signs-v2") == "version 2"
    (tmp_path / "hand-signs-v2").mkdir()
    assert named_root("hand-signs-v2") == "hand-signs-v2"  # the user's own


@pytest.mark.parametrize("first", [0, TOGETHER, DEV, UNSEEN])
def test_sixteen_signers_cover_the_range_of_every_property_and_have_a_left_hander(first):
    people = [signer(0, first + number) for number in range(TOGETHER)]
    for name, (low, high) in RANGES.items():
        parts = sorted((getattr(who, name) - low) / (high - low) * TOGETHER for who in people)
        assert all(place - 0.03 <= part <= place + 1.03 for place, part in enumerate(parts)), name
    assert 1 <= sum(who.hand == "left" for who in people) <= 2


def test_a_second_clip_shows_the_same_hand_elsewhere():
    for number in range(DEV, DEV + TOGETHER):
        one, two = (scene.clip_of(0, number, clip, 16) for clip in (1, 2))
        assert one.lean == two.lean and one.sleeve == two.sleeve
        assert one.light != two.light and 1.2 < max(one.distance, two.distance) / min(one.distance, two.distance) < 1.25
        assert np.abs(one.wall - two.wall).mean() > 0.02
        lightness = scene.LIT * signer(0, number).skin
        for clip in (one, two):
            assert abs(abs(clip.level - lightness) - signer(0, number).contrast) < 1e-6


def test_the_walls_are_as_far_from_the_skin_as_the_table_says():
    said, seen = [], []
    for number in range(24):
        who, clip = signer(0, number), scene.clip_of(0, number, 1, 96)
        shown, wall = (
            scene.render(label, number=number, clip=1, frame=0) / (255 * clip.gain) for label in ("B", "Nothing")
        )
        hand_only = np.abs(shown - wall)[36:70, 36:60]  # the palm is there
        said.append(who.contrast)
        seen.append(np.median(hand_only))
    assert np.corrcoef(said, seen)[0, 1] > 0.7


def test_no_bone_goes_through_another():
    """Flesh gives way by half of the thinner bone's radius; T's and M's thumbs are wedged between fingers."""
    fingers = [f"{finger}{bone}" for finger in "IMRL" for bone in range(4)]
    names = [*fingers, *(f"T{bone}" for bone in range(4))]

    def flesh(name):  # palm and the base of the thumb
        return name[1] == "0" or name == "T1"

    for label, letter in LETTERS.items():
        bones = list(hand(letter))[: len(names)]
        points = [np.linspace(a, b, 12) for a, b, _, _ in bones]
        radii = [np.linspace(radius, radius - taper, 12) for _, _, radius, taper in bones]
        for i, j in itertools.combinations(range(len(names)), 2):
            one, other = names[i], names[j]
            joined = one[0] == other[0] and int(other[1]) - int(one[1]) <= 1
            base = (flesh(one) and other[1] == "1") or (flesh(other) and one[1] == "1")
            if joined or base or (flesh(one) and flesh(other)) or {one, other} == {"T0", "T2"}:
                continue
            apart = np.linalg.norm(points[i][:, None] - points[j], axis=2) - radii[i][:, None] - radii[j]
            depth = -(apart / np.minimum(radii[i][:, None], radii[j])).min()
            most = {"T": 1.5, "M": 0.85, "R": 0.7}.get(label, 0.55)
            assert depth < most, (label, one, other, depth)


def test_no_letter_is_the_mirror_image_of_another(monkeypatch):
    monkeypatch.setattr(scene, "changed", lambda letter, *_: letter)
    monkeypatch.setattr(scene, "clip_drift", lambda *_: iter([0.0] * 24))

    def drawn(which):
        monkeypatch.setattr(scene, "signer", lambda *_: dataclasses.replace(USUAL, hand=which))
        scene.clip_of.cache_clear()
        return {label: scene.render(label, number=3, clip=1, frame=0, size=48).astype(float) for label in LETTERS}

    right, left = drawn("right"), drawn("left")
    scene.clip_of.cache_clear()
    shifts = list(itertools.product(range(0, 9, 2), repeat=2))

    def apart(a, b):
        return min(np.abs(a[y : y + 40, x : x + 40] - b[4:44, 4:44]).mean() for y, x in shifts)

    same_hand = min(apart(right[a], right[b]) for a, b in itertools.combinations(LETTERS, 2))
    mirrored = min(apart(right[a], left[b]) for a, b in itertools.permutations(LETTERS, 2))
    assert mirrored > 1.5 * same_hand


@pytest.mark.parametrize("key", QUARTERS, ids=str)
def test_pixels_of_version_2_stay(key):
    label, number, clip, frame = key
    picture = scene.render(label, number=number, clip=clip, frame=frame)
    quarters = picture.reshape(2, 48, 2, 48).mean((1, 3)).ravel()
    np.testing.assert_allclose(quarters, QUARTERS[key], atol=0.7)
