"""Of the worst person: whether a mirror would help."""

import numpy as np
import torch

from gfnet_pl.evaluation.calibration import Calibration, probabilities
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.report.analysis import in_mirror
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


def test_the_net_sees_the_mirror_images_of_the_pictures_that_are_asked_for():
    torch.manual_seed(0)
    net = GFNet(image_size=16, patch_size=4, dim=8, depth=1, num_classes=3).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (130, 16, 16), dtype=np.uint8)
    asked = np.arange(0, 130)[::-1]  # more than the net sees at once
    calibration = Calibration(1.5, familiarity=Familiarity.fit(np.eye(3, 8), np.arange(3)))
    saying = in_mirror(net, lambda places: pixels[places], calibration)
    assert saying is not None
    shares, features, distances = saying(asked)
    np.testing.assert_allclose(distances, calibration.familiarity.distances(features), atol=1e-5)
    with torch.inference_mode():
        mirrored = torch.from_numpy(np.flip(pixels, 2)[asked].copy())[:, None]
        np.testing.assert_allclose(features, net.features(mirrored).numpy(), atol=1e-5)
        np.testing.assert_allclose(shares, probabilities(net(mirrored).numpy(), 1.5), atol=1e-5)
    net.mirrored_views = True
    assert in_mirror(net, lambda places: pixels[places], calibration) is None  # it looks in the mirror by itself
