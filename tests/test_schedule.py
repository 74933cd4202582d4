import pytest
import torch
from torch import nn

from gfnet_pl.training.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0), (25, 0.25), (50, 0.5), (100, 1), (200, 0.75), (250, 0.5), (300, 0.25), (400, 0), (500, 0)],
)
def test_linear_warm_up_then_half_a_cosine_down_to_zero(step, share):
    assert warmup_cosine(step, warmup_steps=100, total_steps=400) == pytest.approx(share, abs=1e-12)


def test_without_warm_up_the_first_step_is_at_the_peak():
    assert warmup_cosine(0, warmup_steps=0, total_steps=10) == 1


def test_the_cosine_is_torch_s():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=37)
    for step in range(37):
        ours = warmup_cosine(step, warmup_steps=0, total_steps=37)
        assert ours == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()
