"""The global filter: a learned circular convolution over the whole map of tokens, stored in the frequency domain.

Notable choices:
- On small maps, the Fourier transform is two products with fixed real matrices, one along each axis of the map. The
  products can run in bf16 and be compiled, and they are exported as plain MatMuls. They cost O(n^1.5) for n tokens, the
  FFT costs O(n log n). On large maps the same weight is therefore applied with rfft2, always in at least float32.
  `MATRIX_MAX_TOKENS` is the measured size up to which the matrices are used.
- A weight for half of the rows ("7 x 7 on a 12 x 12 map") is read as *mirrored rows*: rows k and -k share one weight.

Axes: B images, H x W tokens, C channels, M = W // 2 + 1 columns of the half spectrum that rfft2 keeps.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

# Measured with `OMP_NUM_THREADS=1 python benchmarks/filter_switch.py`, on a CPU with AVX-512 bf16, forward + backward.
# The time of the FFT divided by the time of the matrices, in float32 and (in bf16): 2.4 (3.3) on a map of 12 x 12,
# 1.5 (2.2) on 48 x 48, 0.9 (1.4) on 56 x 56.
MATRIX_MAX_TOKENS = 48 * 48
_MATRICES = ("along_width", "along_height", "back_along_width")


def fourier_matrices(map_size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The orthonormal rfft2 and irfft2 of an H x W map as real matrices, float64.

    Args:
        map_size: Height and width (H, W) of the map.

    Returns:
        along_width (2M, W): from a row of tokens to its half spectrum, real parts before imaginary parts.
        along_height (2H, 2H): from one column of the rows' half spectra to one column of the spectrum. In the input,
            the real and the imaginary part of each row follow each other. In the output, all real parts come before
            all imaginary parts. The matrix is orthogonal, so its transpose is its inverse.
        back_along_width (W, 2M): from a half spectrum to the row of tokens. Like irfft, it ignores what the spectrum
            of a real row cannot contain, for example an imaginary part at frequency zero.
    """
    height, width = map_size
    rows = torch.fft.rfft(torch.eye(width, dtype=torch.float64), norm="ortho").T  # (M, W)
    along_width = torch.cat((rows.real, rows.imag))

    columns = torch.fft.fft(torch.eye(height, dtype=torch.complex128), norm="ortho")  # (H, H), symmetric
    columns = torch.stack((columns, 1j * columns), dim=2).flatten(1)  # (H, 2H): real, imaginary impulses
    along_height = torch.cat((columns.real, columns.imag))

    waves = torch.eye(len(rows), dtype=torch.complex128)
    back_along_width = torch.fft.irfft(torch.cat((waves, 1j * waves)), n=width, norm="ortho").T
    return along_width, along_height, back_along_width.contiguous()


def stored_size(map_size: tuple[int, int], filter_size: Literal["full"] | Sequence[int]) -> tuple[int, ...]:
    """Rows and columns of a filter's weight on a map; `GlobalFilter` describes both arguments and the error."""
    height, width = map_size
    full, half = (height, width // 2 + 1), (height // 2 + 1, width // 2 + 1)
    size = full if filter_size == "full" else tuple(filter_size)
    if size not in (full, half):
        raise ValueError(
            f"filter_size {filter_size!r} does not fit a map of {height} x {width} tokens: "
            f"use {list(full)} (or 'full') or {list(half)}"
        )
    return size


class GlobalFilter(nn.Module):
    r"""A learned filter over the whole map of tokens: 2-D Fourier transform, product with a complex weight, inverse.

    Section 3.2 of Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021.

    Args:
        dim: Number of channels C. Each channel has its own filter.
        map_size: Height and width (H, W) of the map of tokens.
        filter_size: Rows and columns of the learned weight. "full" means (H, W // 2 + 1), as in the authors' code:
            every frequency of the half spectrum has its own weight. (H // 2 + 1, W // 2 + 1) has about half as many
            weights: rows k and -k share one. It still covers all frequencies, but it treats the two diagonal
            directions / and \ alike.

    Raises:
        ValueError: If `filter_size` is neither of the two sizes.
    """

    def __init__(
        self, dim: int, map_size: tuple[int, int], filter_size: Literal["full"] | Sequence[int] = "full"
    ) -> None:
        super().__init__()
        height, width = self.map_size = map_size
        size = stored_size(map_size, filter_size)
        self.complex_weight = nn.Parameter(torch.randn(*size, dim, 2) * 0.02)

        frequency = torch.arange(height)
        mirrored = torch.minimum(frequency, height - frequency)
        self.rows: Tensor  # the stored row of each of the H rows of the spectrum
        self.register_buffer("rows", frequency if size[0] == height else mirrored, persistent=False)

        self.along_width: Tensor | None
        self.along_height: Tensor | None
        self.back_along_width: Tensor | None
        for name in _MATRICES:
            self.register_buffer(name, None, persistent=False)
        if height * width <= MATRIX_MAX_TOKENS:
            self.use_matrices()

    def use_matrices(self) -> None:
        """From now on, use the matrices on a large map too: the result is the same, and ONNX has no other way."""
        for name, matrix in zip(_MATRICES, fourier_matrices(self.map_size), strict=True):
            setattr(self, name, matrix.to(self.complex_weight))

    def response(self) -> Tensor:
        """The weight of every frequency, (H, W // 2 + 1, C, 2); the last axis is the real and the imaginary part."""
        return self.complex_weight.index_select(0, self.rows)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the tokens.

        Args:
            x: Tokens (B, H * W, C), row by row.

        Returns:
            Filtered tokens of the same shape. On small maps they have the dtype of a matrix product, under autocast
            too. On large maps they are float32, or float64 if x is.
        """
        return self._by_fft(x) if self.along_width is None else self._by_matrices(x)

    def _by_matrices(self, x: Tensor) -> Tensor:
        assert self.along_width is not None and self.along_height is not None and self.back_along_width is not None
        (batch, _, channels), (height, width), columns = x.shape, self.map_size, self.map_size[1] // 2 + 1
        rows = self.along_width @ x.reshape(batch * height, width, channels)  # (B * H, 2M, C)
        spectrum = self.along_height @ rows.view(batch, 2 * height, columns * channels)
        real, imag = spectrum.chunk(2, dim=1)  # (B, H, M * C) each
        weight = self.response().to(real.dtype).movedim(-1, 0).flatten(2)
        a, b = weight.contiguous()  # (H, M * C) each; without the copy the products would be several times slower
        filtered = torch.cat((real * a - imag * b, real * b + imag * a), dim=1)
        rows = (self.along_height.mT @ filtered).view(batch * height, 2 * columns, channels)
        return (self.back_along_width @ rows).view(x.shape)

    def _by_fft(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)  # no FFT of every size in half precision
        tokens = x.to(dtype).reshape(-1, *self.map_size, x.shape[-1])  # (B, H, W, C)
        spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.response().to(dtype))
        filtered: Tensor = torch.fft.irfft2(spectrum, s=self.map_size, dim=(1, 2), norm="ortho")
        return filtered.flatten(1, 2)
