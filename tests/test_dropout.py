import pytest
import torch

from gfnet_pl.model.dropout import Dropout

SAMPLES = 1_000_000


@pytest.mark.parametrize("p", [0.001, 0.1, 0.2, 0.5, 0.9])
def test_drops_with_probability_p_and_keeps_the_mean(p):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(SAMPLES))
    error = (p * (1 - p) / SAMPLES) ** 0.5
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=4 * error + 2**-17)
    assert y.double().mean().item() == pytest.approx(1, abs=4 * error / (1 - p))


def test_the_scale_is_that_of_the_probability_that_was_used():
    torch.manual_seed(0)
    y = Dropout(0.2)(torch.ones(1000))
    dropped = round(0.2 * 65536)
    assert torch.equal(y.unique(), torch.tensor([0.0, 65536 / (65536 - dropped)]))


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(SAMPLES)) > 0).double().reshape(-1, 8) - 0.5
    correlation = 4 * kept.T @ kept / len(kept)
    torch.testing.assert_close(correlation, torch.eye(8, dtype=torch.float64), rtol=0, atol=5 / len(kept) ** 0.5)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 4), (5, 7, 3), (2, 144, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_shape_and_dtype(shape, dtype):
    y = Dropout(0.2)(torch.ones(shape, dtype=dtype))
    assert y.shape == shape
    assert y.dtype == dtype
    assert all(value in (0, torch.tensor(65536 / (65536 - 13107), dtype=dtype)) for value in y.flatten())


def test_a_strided_input_is_dropped_element_by_element():
    torch.manual_seed(0)
    x = torch.arange(1.0, 25).reshape(4, 6).T
    y = Dropout(0.5)(x)
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))
    assert 0 < (y == 0).sum() < 24


def test_the_gradient_passes_where_the_number_did():
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    upstream = torch.randn(1000)
    y = Dropout(0.5)(x)
    y.backward(upstream)
    assert torch.equal(x.grad, torch.where(y == 0, 0, 2 * upstream))


def test_a_seed_reproduces_it_and_another_does_not():
    x = torch.ones(1000)
    torch.manual_seed(1)
    first, second = Dropout(0.2)(x), Dropout(0.2)(x)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.2)(x), first)
    assert not torch.equal(first, second)


def test_is_the_identity_in_evaluation_and_for_p_zero():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1, 1.5])
def test_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="dropout is a probability of at least 0 and below 1, got"):
        Dropout(p)


def test_other_devices_take_the_native_dropout():
    assert Dropout(0.2)(torch.ones(3, 5, device="meta")).device.type == "meta"
