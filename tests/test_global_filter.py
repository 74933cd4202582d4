import math

import pytest
import torch
from torch import Tensor

from gfnet_pl import GlobalFilter
from gfnet_pl.model import global_filter

MAPS = [(12, 12), (7, 9), (8, 5), (1, 6)]
PATHS = ["matrix", "fft"]


def make(path: str, dim: int, map_size: tuple[int, int], filter_size="full", *, seed: int = 0) -> GlobalFilter:
    """A float64 filter on the wanted path, with weights large enough to see."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(global_filter, "MATRIX_MAX_TOKENS", 10_000 if path == "matrix" else 0)
        module = GlobalFilter(dim, map_size, filter_size)
    assert (module.along_width is not None) == (path == "matrix")
    torch.nn.init.normal_(module.complex_weight)
    return module.double()


def half_size(map_size: tuple[int, int]) -> tuple[int, int]:
    return map_size[0] // 2 + 1, map_size[1] // 2 + 1


def kernel_of(module: GlobalFilter) -> Tensor:
    """The filter in space (H, W, C): a sum of waves, written out without any transform of torch's."""
    height, width = module.map_size
    stored = module.complex_weight.detach()
    kernel = torch.zeros(height, width, stored.shape[2], dtype=torch.float64)
    for k in range(height):
        row = k if stored.shape[0] == height else min(k, height - k)
        for m in range(width // 2 + 1):
            twice = 1 if m == 0 or 2 * m == width else 2  # frequency -m, which the half spectrum leaves out
            for i in range(height):
                for j in range(width):
                    angle = 2 * math.pi * (k * i / height + m * j / width)
                    real, imag = stored[row, m].unbind(-1)
                    kernel[i, j] += twice * (real * math.cos(angle) - imag * math.sin(angle)) / (height * width)
    return kernel


def circular_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """(B, H, W, C) by (H, W, C), term by term."""
    result = torch.zeros_like(x)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            result += kernel[i, j] * torch.roll(x, (i, j), dims=(1, 2))
    return result


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reading", ["full", "half"])
@pytest.mark.parametrize("map_size", MAPS)
def test_is_the_circular_convolution_with_the_filters_kernel(path, reading, map_size):
    module = make(path, 3, map_size, "full" if reading == "full" else half_size(map_size))
    x = torch.randn(2, *map_size, 3, dtype=torch.float64)
    expected = circular_convolution(x, kernel_of(module))
    torch.testing.assert_close(module(x.flatten(1, 2)).unflatten(1, map_size), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("map_size", MAPS)
def test_matrices_are_the_orthonormal_rfft2_and_irfft2(map_size):
    height, _ = map_size
    along_width, along_height, back_along_width = global_filter.fourier_matrices(map_size)
    x = torch.randn(map_size, dtype=torch.float64)
    expected = torch.fft.rfft2(x, norm="ortho")
    rows = along_width @ x.unsqueeze(-1)  # (H, 2M, 1)
    spectrum = along_height @ rows.view(2 * height, -1)
    torch.testing.assert_close(spectrum, torch.cat((expected.real, expected.imag)), rtol=0, atol=1e-13)

    spectrum = torch.randn_like(spectrum)  # not the spectrum of a real map: irfft2 has to ignore the same parts
    expected = torch.fft.irfft2(torch.complex(*spectrum.chunk(2)), s=map_size, norm="ortho")
    rows = (along_height.mT @ spectrum).view(height, -1, 1)
    torch.testing.assert_close((back_along_width @ rows).view(map_size), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("reading", ["full", "half"])
@pytest.mark.parametrize("map_size", MAPS)
def test_both_paths_give_the_same_result_and_gradients(reading, map_size):
    filter_size = "full" if reading == "full" else half_size(map_size)
    x = torch.randn(3, map_size[0] * map_size[1], 4, dtype=torch.float64)
    upstream = torch.randn_like(x)
    results = []
    for path in PATHS:
        module = make(path, 4, map_size, filter_size)
        tokens = x.clone().requires_grad_()
        y = module(tokens)
        y.backward(upstream)
        results.append((y.detach(), tokens.grad, module.complex_weight.grad))
    for matrix, fft in zip(*results, strict=True):
        assert matrix.abs().max() > 0.1
        torch.testing.assert_close(matrix, fft, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("filter_size", ["full", (2, 3)])
def test_gradients_are_those_of_finite_differences(path, filter_size):
    module = make(path, 2, (3, 4), filter_size)
    x = torch.randn(2, 12, 2, dtype=torch.float64, requires_grad=True)

    def apply(tokens: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"complex_weight": weight}, (tokens,))

    assert torch.autograd.gradcheck(apply, (x, module.complex_weight))


@pytest.mark.parametrize("path", PATHS)
def test_a_shifted_map_gives_the_shifted_result(path):
    module = make(path, 3, (7, 9))
    x = torch.randn(2, 7, 9, 3, dtype=torch.float64)
    shifted = module(x.roll((2, -4), dims=(1, 2)).flatten(1, 2)).unflatten(1, (7, 9))
    torch.testing.assert_close(
        shifted, module(x.flatten(1, 2)).unflatten(1, (7, 9)).roll((2, -4), dims=(1, 2)), rtol=0, atol=1e-6
    )


def test_half_rows_mirror_the_frequencies():
    module = make("matrix", 2, (12, 12), [7, 7])
    response = module.response()
    assert response.shape == (12, 7, 2, 2)
    for k in range(12):
        assert torch.equal(response[k], response[-k])  # row 12 - k holds frequency -k
        assert torch.equal(response[k], module.complex_weight[min(k, 12 - k)])


def test_weights_have_the_size_asked_for_and_start_small():
    torch.manual_seed(0)
    assert GlobalFilter(256, (12, 12), [12, 7]).complex_weight.shape == (12, 7, 256, 2)
    assert GlobalFilter(256, (12, 12), (7, 7)).complex_weight.shape == (7, 7, 256, 2)
    weight = GlobalFilter(256, (12, 12), "full").complex_weight
    assert weight.shape == (12, 7, 256, 2)
    assert abs(weight.mean().item()) < 5e-4
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("filter_size", [(7, 12), (5, 5), (12,), (7, 7, 1)])
def test_another_size_is_refused_with_both_sizes_that_fit(filter_size):
    with pytest.raises(ValueError, match=r"filter_size .* 12 x 12 tokens: use \[12, 7\] \(or 'full'\) or \[7, 7\]"):
        GlobalFilter(4, (12, 12), filter_size)


def test_only_the_weight_is_saved():
    assert set(GlobalFilter(4, (12, 12), (7, 7)).state_dict()) == {"complex_weight"}


def test_small_maps_take_the_matrix_and_large_ones_the_fft():
    side = math.isqrt(global_filter.MATRIX_MAX_TOKENS)
    assert GlobalFilter(2, (side, side)).along_width is not None
    assert GlobalFilter(2, (side, side + 1)).along_width is None


@pytest.mark.parametrize(("path", "dtype"), [("matrix", torch.bfloat16), ("fft", torch.float32)])
def test_under_autocast_the_matrix_works_in_bf16_and_the_fft_in_float32(path, dtype):
    module = make(path, 16, (12, 12)).float()
    x = torch.randn(4, 144, 16)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
    assert y.dtype == dtype
    error = (y.float() - expected).norm() / expected.norm()
    assert 1e-4 < error < 1e-2
    y.float().sum().backward()
    assert module.complex_weight.grad.dtype == torch.float32
