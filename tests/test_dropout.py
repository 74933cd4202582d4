import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from gfnet_pl.model.dropout import InPlaceDropout

SAMPLES = 1_000_000
LEVELS = {torch.bfloat16: 2**16, torch.float32: 2**32}


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.2, 0.5, 0.9])
def test_drops_with_probability_p_and_keeps_the_mean(p):
    torch.manual_seed(0)
    y = InPlaceDropout(p)(ones(SAMPLES))
    error = (p * (1 - p) / SAMPLES) ** 0.5
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=4 * error)
    assert y.double().mean().item() == pytest.approx(1, abs=4 * error / (1 - p))


@pytest.mark.parametrize(("p", "rounded"), [(0.2, 0.2), (0.1, 1 - 1 / 1.109375), (0.5, 0.5), (0.001, 0)])
def test_in_bf16_p_is_rounded_with_the_scale_so_that_the_mean_stays(p, rounded):
    torch.manual_seed(0)
    y = InPlaceDropout(p)(ones(SAMPLES, dtype=torch.bfloat16)).double()
    error = (rounded * (1 - rounded) / SAMPLES) ** 0.5
    assert (y == 0).double().mean().item() == pytest.approx(rounded, abs=4 * error)
    assert y.mean().item() == pytest.approx(1, abs=4 * error / (1 - rounded))
    assert set(y.unique().tolist()) <= {0.0, 1 / (1 - rounded)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_each_lane_of_a_draw_has_the_rate_and_is_independent_of_the_others(dtype, p):
    """Chi-square over the patterns of the numbers that share a 64-bit draw, and of a draw with the next."""
    torch.manual_seed(0)
    for lanes in (8 // dtype.itemsize, 16 // dtype.itemsize):
        dropped = (InPlaceDropout(p)(ones(2**21, dtype=dtype)) == 0).reshape(-1, lanes).numpy()
        patterns = dropped @ (1 << np.arange(lanes))
        counts = np.bincount(patterns, minlength=2**lanes)
        drops = np.array([int(pattern).bit_count() for pattern in range(2**lanes)])
        expected = len(dropped) * p**drops * (1 - p) ** (lanes - drops)
        assert chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue > 1e-4
        rate = dropped.mean(0)
        np.testing.assert_allclose(rate, p, atol=4.5 * (p * (1 - p) / len(dropped)) ** 0.5)


def test_calls_are_independent():
    torch.manual_seed(0)
    first, second = ((InPlaceDropout(0.5)(ones(SAMPLES)) > 0).double() - 0.5 for _ in range(2))
    assert abs((first * second).mean().item()) < 4 * 0.25 / SAMPLES**0.5


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 4), (5, 7, 3), (2, 144, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_shape_and_dtype(shape, dtype):
    y = InPlaceDropout(0.2)(ones(*shape, dtype=dtype))
    assert y.shape == shape
    assert y.dtype == dtype
    assert all(value in (0, torch.tensor(1.25, dtype=dtype)) for value in y.flatten())


def test_a_strided_input_is_dropped_element_by_element():
    torch.manual_seed(0)
    x = torch.arange(1.0, 25).reshape(4, 6).T
    y = InPlaceDropout(0.5)(x.clone())
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))
    assert 0 < (y == 0).sum() < 24


def test_the_gradient_passes_where_the_number_did():
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    upstream = torch.randn(1000)
    y = InPlaceDropout(0.5)(x * 1)
    y.backward(upstream)
    assert torch.equal(x.grad, torch.where(y == 0, 0, 2 * upstream))


def test_a_seed_reproduces_it_and_another_does_not():
    torch.manual_seed(1)
    first, second = InPlaceDropout(0.2)(ones(1000)), InPlaceDropout(0.2)(ones(1000))
    torch.manual_seed(1)
    assert torch.equal(InPlaceDropout(0.2)(ones(1000)), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nearly_one_is_a_probability_too(dtype):
    assert (InPlaceDropout(1 - 1e-7)(ones(1000, dtype=dtype)) == 0).double().mean() > 0.98


def test_works_in_place():
    x = ones(100)
    assert InPlaceDropout(0.5)(x) is x
    assert (x == 0).any()


def test_is_the_identity_in_evaluation_and_for_p_zero():
    x = torch.randn(100)
    before = x.clone()
    assert InPlaceDropout(0.5).eval()(x) is x
    assert InPlaceDropout(0)(x) is x
    assert torch.equal(x, before)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5])
def test_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=r"dropout is .*: it must be at least 0 and below 1"):
        InPlaceDropout(p)


def test_other_devices_take_the_native_dropout():
    assert InPlaceDropout(0.2)(torch.ones(3, 5, device="meta")).device.type == "meta"
