"""Of the worst person: whether a mirror would help, by a net that looks at which side is bright."""

import numpy as np
import torch

from gfnet_pl.report.people import WorstPerson, better_in_mirror, mirror_words

LABELS = np.arange(40) % 2


def brighter_side(images):
    halves = images.float().mean((1, 2)).unflatten(1, (2, -1)).mean(2)
    assert len(images) <= 64 and not torch.is_grad_enabled()
    return halves  # class 0: left


def pictures(left_handed):
    pixels = np.zeros((len(LABELS), 4, 6), np.uint8)
    for place, (label, other) in enumerate(zip(LABELS, left_handed, strict=True)):
        pixels[place, :, (3 if label != other else 0) :][:, :3] = 200
    return pixels


def said_of(pixels):
    return brighter_side(torch.from_numpy(pixels)[:, None]).argmax(1).numpy()


def test_a_left_hander_is_read_better_in_a_mirror_and_a_right_hander_is_not():
    for mostly, colour in ((True, False), (False, False), (True, True)):
        left = np.full(len(LABELS), mostly)
        left[:4] = not mostly
        pixels = pictures(left)
        with torch.inference_mode():
            predictions = said_of(pixels)
        shown = np.repeat(pixels[..., None], 3, 3) if colour else pixels
        found = better_in_mirror(brighter_side, shown, LABELS, predictions)
        assert found == ((0.1, 0.9) if mostly else None)


def test_a_difference_that_chance_makes_is_none():
    left = np.arange(len(LABELS)) < 22  # 22 are right in a mirror, 18 as they are
    pixels = pictures(left)
    with torch.inference_mode():
        predictions = said_of(pixels)
    assert better_in_mirror(brighter_side, pixels, LABELS, predictions) is None


def test_the_page_says_so_only_then():
    assert mirror_words(None) == mirror_words(WorstPerson("anna", [], None)) == ""
    words = mirror_words(WorstPerson("anna", [], (0.5, 0.9)))
    assert words.startswith("In a mirror 90\u00a0% of the pictures of anna are right instead of 50\u00a0%")
