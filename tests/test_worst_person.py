"""Of the worst person: whether a mirror would help."""

import numpy as np

from gfnet_pl.report.people import WorstPerson, better_in_mirror, mirror_words

LABELS = np.arange(40) % 3


def said(right):
    """Predictions of which so many are right, the first ones."""
    return np.where(np.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 3)


def test_only_what_is_more_than_chance_is_better_in_a_mirror():
    assert better_in_mirror(said(10), said(36), LABELS) == (0.25, 0.9)
    assert better_in_mirror(said(36), said(10), LABELS) is None
    assert better_in_mirror(said(36), said(40), LABELS) is None  # four pictures
    assert better_in_mirror(said(30), said(30), LABELS) is None


def test_the_page_says_so_only_then():
    assert mirror_words(None) == mirror_words(WorstPerson("anna", [], None)) == ""
    words = mirror_words(WorstPerson("anna", [], (0.5, 0.9)))
    assert words.startswith("In a mirror 90\u00a0% of the pictures of anna are right instead of 50\u00a0%")
