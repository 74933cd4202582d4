"""What a person has shown: arrays in, probabilities out; and which pictures are shown and tested."""

import numpy as np
import pytest

from gfnet_pl.evaluation.enrolment import (
    PICTURES,
    Enrolment,
    Seen,
    better_mirrored,
    clips_in,
    enrolment_curve,
    trials,
)
from gfnet_pl.run.enrolled import read_enrolment, write_enrolment

CLASSES, SIZE = 5, 16


@pytest.fixture
def person():
    """Features and labels of a person whose signs are his own, and probabilities that know nothing of them."""
    chance = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 6)
    features = chance.normal(size=(CLASSES, SIZE))[labels] + 0.2 * chance.normal(size=(len(labels), SIZE))
    shares = chance.dirichlet(np.ones(CLASSES), len(labels))
    return shares, features.astype(np.float32), labels


def test_a_person_is_recognised_by_what_he_has_shown(person):
    shares, features, labels = person
    before = (shares.argmax(1) == labels).mean()
    found = Enrolment.of(features[::6], labels[::6], CLASSES).probabilities(shares, features)
    assert before < 0.5
    assert (found.argmax(1) == labels).all()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_a_class_that_was_not_shown_is_neither_favoured_nor_forgotten(person):
    shares, features, labels = person
    some = np.flatnonzero(labels < 2)[::6]
    enrolment = Enrolment.of(features[some], labels[some], CLASSES)
    found = enrolment.probabilities(shares, features)
    missing = labels >= 2
    # Among themselves they are as before; and against the nearest of those that were shown, too.
    others, before = found[:, 2:], shares[:, 2:]
    among = [each / each.sum(1, keepdims=True) for each in (others, before)]
    np.testing.assert_allclose(*among, rtol=1e-4)
    nearest = (features / np.linalg.norm(features, axis=1, keepdims=True) @ enrolment.means[:2].T).argmax(1)
    row = np.arange(len(labels))
    np.testing.assert_allclose(found[row, nearest] / found[:, 4], shares[row, nearest] / shares[:, 4], rtol=1e-4)
    right = shares.argmax(1) == labels
    assert (found.argmax(1) == labels)[missing & right].all()
    nobody = Enrolment.of(features[:0], labels[:0], CLASSES)
    np.testing.assert_allclose(nobody.probabilities(shares, features), shares, rtol=1e-5)


def test_whose_pictures_are_likelier_in_a_mirror_is_seen_in_one_if_much_speaks_for_it():
    labels = np.arange(CLASSES)
    sure, unsure = (np.full((CLASSES, CLASSES), (1 - share) / 4) for share in (0.8, 0.4))
    sure[labels, labels], unsure[labels, labels] = 0.8, 0.4
    features = np.ones((CLASSES, SIZE))

    def better(shares, mirrored, away=None, limit=None):
        one, other = away or (None, None)
        seen, in_mirror = Seen.of(shares, features, one, limit), Seen.of(mirrored, features, other, limit)
        return better_mirrored(seen, in_mirror, labels[: len(shares)])

    assert better(unsure, sure)  # 5 pictures of twice the probability: 32 to 1, against 9 to 1
    assert not better(sure, unsure)
    assert not better(unsure[:3], sure[:3])  # 8 to 1 is too little
    wrong, unlikely = sure[:1].copy(), sure[:1].copy()
    wrong[0, 0], unlikely[0, 0] = 1e-9, 1e-12
    assert not better(unlikely, wrong)  # both are under the wrong sign
    near, far = np.full(CLASSES, 9.0), np.full(CLASSES, 9.5)
    assert better(sure, sure, (far, near))  # 5 times half a standard deviation nearer
    assert not better(sure, sure, (near, far))
    assert not better(sure, unsure, (far, near))  # another class in a mirror
    assert not better(sure, sure, (far, near), 9.0)  # what is too far away says nothing
    assert better(unsure, sure, (far, near), 9.0)
    for shape in ((2, 3, 4), (2, 3, 4, 3)):
        pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        features = np.ones((1, SIZE), np.float32)
        turned, not_turned = (Enrolment.of(features, labels[:1], CLASSES, mirrored=way) for way in (True, False))
        assert (turned.seen(pixels) == np.flip(pixels, 2)).all()
        assert (not_turned.seen(pixels) == pixels).all()


def test_a_mirrored_person_s_curve_is_that_of_the_mirror_images(person):
    shares, features, labels = person
    likely = np.full_like(shares, 0.05)
    likely[np.arange(len(labels)), labels] = 0.8
    known = Seen(likely, features)
    nobody_s = Seen(
        np.roll(likely, 1, axis=1), features[::-1]
    )  # of the pictures as they are, which the net reads wrongly
    arguments = labels, ["a"] * len(labels), [""] * len(labels)
    asked = []

    def mirrored(places):
        asked.append(places.tolist())
        return known.at(places)

    (found,) = enrolment_curve(nobody_s, *arguments, mirrored=mirrored)
    (expected,) = enrolment_curve(known, *arguments)
    assert found.shares == [0.0, *expected.shares[1:]]
    everything = list(range(len(labels)))
    assert asked == [everything[::6], everything, everything[::-1][::6]]  # of the others as little as it takes
    asked.clear()
    (other,) = enrolment_curve(known, *arguments, mirrored=nobody_s.at)
    assert other.shares == expected.shares


def test_a_file_says_whether_the_person_is_mirrored_and_an_older_one_does_not(person, tmp_path):
    _, features, labels = person
    names = [str(place) for place in range(CLASSES)]
    for mirrored in (True, False):
        enrolment = Enrolment.of(features, labels, CLASSES, mirrored=mirrored)
        write_enrolment(tmp_path / "new.npz", enrolment, names, "net")
        assert read_enrolment(tmp_path / "new.npz", names, "net").mirrored is mirrored
    with np.load(tmp_path / "new.npz") as arrays:
        older = {name: arrays[name] for name in arrays if name != "mirrored"} | {"format": np.array(1)}
    np.savez(tmp_path / "old.npz", **older)
    assert read_enrolment(tmp_path / "old.npz", names, "net").mirrored is False


def test_no_picture_is_both_shown_and_tested_and_clips_are_kept_apart(person):
    _, _, labels = person
    for clips in ([""] * len(labels), clips_in([f"A/signer1_clip{1 + place % 2}_{place}.png" for place in range(30)])):
        parts = trials(labels, clips)
        assert len(parts) == 2
        for part in parts:
            assert sorted([*part.enrolled, *part.tested]) == list(range(len(labels)))
            assert set(labels[part.enrolled]) == set(labels[part.tested]) == set(range(CLASSES))
            if clips[0]:
                assert not {clips[place] for place in part.enrolled} & {clips[place] for place in part.tested}
    assert set(clips) == {"clip1", "clip2"}


def test_the_curve_begins_where_nothing_was_shown(person):
    shares, features, labels = person
    people = ["a"] * len(labels) + ["b"] * 2
    joined = (np.concatenate([each, each[:2]]) for each in (shares, features, labels))
    curve = enrolment_curve(Seen(next(joined), next(joined)), next(joined), people, [""] * len(people))
    (found, *_) = curve
    assert (found.name, len(found.shares), found.images, found.of_other_clips) == ("a", len(PICTURES), 20, False)
    tested = np.concatenate([part.tested for part in trials(labels, [""] * len(labels))])
    assert found.shares[0] == (shares.argmax(1) == labels)[tested].mean()
    assert found.shares[1:] == [1.0] * 3
