"""Which epoch becomes best.ckpt."""

import pytest

from gfnet_pl.training.best_checkpoint import FEW, Validated, chosen_by, is_better


@pytest.mark.parametrize(
    ("new", "best", "images", "better"),
    [
        ((0.917, 0.30), (0.917, 0.35), FEW, True),  # equal accuracy: the lower loss, and not the first
        ((0.917, 0.35), (0.917, 0.30), FEW, False),
        ((0.917, 0.30), (0.917, 0.30), FEW, False),  # of equal ones, the first
        ((0.92, 0.50), (0.91, 0.30), FEW, True),
        ((0.90, 0.50), (0.91, 0.30), FEW - 1, True),  # few pictures: the later one
        ((0.92, float("nan")), (0.91, 0.30), FEW - 1, False),
        ((0.90, None), (0.91, None), FEW - 1, True),
        ((0.92, 0.50), (0.91, None), FEW, True),  # a run that an earlier version began
        ((0.91, 0.01), (0.91, None), FEW, False),
        ((0.91, float("nan")), (0.91, 0.30), FEW, False),
        ((0.91, 0.30), (0.91, float("nan")), FEW, True),
    ],
)
def test_which_of_two_epochs_is_better(new, best, images, better):
    assert is_better(Validated(*new, images), Validated(*best, images)) is better


def test_below_a_thousand_validation_pictures_the_last_epoch_is_taken():
    assert [chosen_by(images) for images in (200, 999, 1000)] == ["last", "last", "accuracy"]
