"""What a person has shown: arrays in, probabilities out; and which pictures are shown and tested."""

import numpy as np
import pytest

from gfnet_pl.evaluation.enrolment import PICTURES, Enrolment, clips_in, enrolment_curve, trials

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
    curve = enrolment_curve(*joined, people, [""] * len(people))
    (found, *_) = curve
    assert (found.name, len(found.shares), found.images, found.of_other_clips) == ("a", len(PICTURES), 20, False)
    tested = np.concatenate([part.tested for part in trials(labels, [""] * len(labels))])
    assert found.shares[0] == (shares.argmax(1) == labels)[tested].mean()
    assert found.shares[1:] == [1.0] * 3
