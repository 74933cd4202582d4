"""Which epoch becomes best.ckpt."""

import pytest

from gfnet_pl.training.best_checkpoint import FEW, Validated, is_better


@pytest.mark.parametrize(
    ("new", "best", "images", "better"),
    [
        ((0.917, 0.30), (0.917, 0.35), FEW, True),  # equal accuracy: the lower loss, and not the first
        ((0.917, 0.35), (0.917, 0.30), FEW, False),
        ((0.917, 0.30), (0.917, 0.30), FEW, False),  # of equal ones, the first
        ((0.92, 0.50), (0.91, 0.30), FEW, True),
        ((0.92, 0.50), (0.91, 0.30), FEW - 1, False),  # few pictures: the loss alone
        ((0.90, 0.29), (0.91, 0.30), FEW - 1, True),
        ((0.92, 0.50), (0.91, None), 36, True),  # a run that an earlier version began
        ((0.91, 0.01), (0.91, None), 36, False),
        ((0.92, float("nan")), (0.91, 0.30), 36, False),
        ((0.91, 0.30), (0.92, float("nan")), 36, True),
        ((0.91, 0.30), (0.91, float("nan")), FEW, True),
    ],
)
def test_which_of_two_epochs_is_better(new, best, images, better):
    assert is_better(Validated(*new, images), Validated(*best, images)) is better
