"""The global filter: a learned circular convolution over the whole token map, written in the frequency domain.

Notable choices:
- On a small map the Fourier transform is a product with a fixed real matrix: one product in, a complex multiply, one
  product out. It runs in bf16, compiles, and exports as plain MatMuls. On a large map, where the matrix's O(n^2) loses
  to O(n log n), the same weight goes through rfft2, always in float32. `MATRIX_MAX_TOKENS` is the measured border.
- A weight for half of the rows ("7 x 7 on a 12 x 12 map") is read as *mirrored rows*: rows k and -k share one weight.

Axes: B images, H x W tokens, C channels, F = H * (W // 2 + 1) frequencies of the half spectrum that rfft2 keeps.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

# `OMP_NUM_THREADS=1 python benchmarks/filter_switch.py`, forward and backward on a CPU with AVX-512 bf16: the FFT's
# time over the matrix's, in float32 and (bf16), is 1.4 (2.6) on 12 x 12, 1.0 (2.1) on 16 x 16, 0.6 (1.4) on 20 x 20.
MATRIX_MAX_TOKENS = 16 * 16


def half_spectrum_matrices(map_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The orthonormal rfft2 and irfft2 of an H x W map as two real matrices, float64.

    The spectrum is one vector of 2F numbers, all real parts before all imaginary parts.

    Returns:
        (2F, H * W) from a map to its half spectrum, and (H * W, 2F) back. As irfft2 does, the matrix back ignores what
        a real map cannot have, such as an imaginary part at frequency zero.
    """
    height, width = map_size
    impulses = torch.eye(height * width, dtype=torch.float64).reshape(-1, height, width)
    spectra = torch.fft.rfft2(impulses, norm="ortho").flatten(1)  # (H * W, F)
    to_spectrum = torch.cat((spectra.real, spectra.imag), dim=1).T

    waves = torch.eye(spectra.shape[1], dtype=torch.complex128).reshape(-1, height, width // 2 + 1)
    from_spectrum = torch.fft.irfft2(torch.cat((waves, 1j * waves)), s=map_size, norm="ortho").flatten(1).T
    return to_spectrum.contiguous(), from_spectrum.contiguous()


class GlobalFilter(nn.Module):
    r"""A learned filter over the whole token map: 2-D Fourier transform, complex weight, inverse transform.

    Section 3.2 of Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021.

    Args:
        dim: Channels C; each has its own filter.
        map_size: Tokens (H, W).
        filter_size: Rows and columns of the learned weight. "full" is the authors' (H, W // 2 + 1): every frequency of
            the half spectrum has its own weight. (H // 2 + 1, W // 2 + 1) holds about half of them: rows k and -k share
            one, so the whole frequency range is there, but the weights no longer tell / from \.

    Raises:
        ValueError: If `filter_size` is neither of the two.
    """

    def __init__(
        self, dim: int, map_size: tuple[int, int], filter_size: Literal["full"] | Sequence[int] = "full"
    ) -> None:
        super().__init__()
        height, width = self.map_size = map_size
        full, half = (height, width // 2 + 1), (height // 2 + 1, width // 2 + 1)
        size = full if filter_size == "full" else tuple(filter_size)
        if size not in (full, half):
            raise ValueError(
                f"filter_size {filter_size!r} does not fit a map of {height} x {width} tokens: "
                f"use {list(full)} (or 'full') or {list(half)}"
            )
        self.complex_weight = nn.Parameter(torch.randn(*size, dim, 2) * 0.02)

        frequency = torch.arange(height)
        mirrored = torch.minimum(frequency, height - frequency)
        self.rows: Tensor  # the stored row of each of the H rows of the spectrum
        self.register_buffer("rows", frequency if size == full else mirrored, persistent=False)

        self.to_spectrum: Tensor | None
        self.from_spectrum: Tensor | None
        matrices = half_spectrum_matrices(map_size) if height * width <= MATRIX_MAX_TOKENS else (None, None)
        for name, matrix in zip(("to_spectrum", "from_spectrum"), matrices, strict=True):
            self.register_buffer(name, None if matrix is None else matrix.float(), persistent=False)

    def response(self) -> Tensor:
        """The weight of every frequency, real and imaginary parts last: (H, W // 2 + 1, C, 2)."""
        return self.complex_weight.index_select(0, self.rows)

    def forward(self, x: Tensor) -> Tensor:
        """Filter the tokens (B, H * W, C), given row by row; same shape back.

        The result has the dtype of a matrix product under autocast on small maps, and float32 on large ones.
        """
        if self.to_spectrum is None or self.from_spectrum is None:
            return self._by_fft(x)
        return self._by_matrix(x, self.to_spectrum, self.from_spectrum)

    def _by_matrix(self, x: Tensor, to_spectrum: Tensor, from_spectrum: Tensor) -> Tensor:
        real, imag = (to_spectrum @ x).chunk(2, dim=1)  # (B, F, C) each
        weight = self.response().flatten(0, 1).to(real.dtype)
        a, b = weight.movedim(-1, 0).contiguous()  # (F, C) each; strided, they would make the products a third slower
        filtered = torch.cat((real * a - imag * b, real * b + imag * a), dim=1)  # (B, 2F, C)
        return from_spectrum @ filtered

    def _by_fft(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)  # half precision has no FFT of any size
        tokens = x.to(dtype).reshape(-1, *self.map_size, x.shape[-1])  # (B, H, W, C)
        spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.response().to(dtype))
        filtered: Tensor = torch.fft.irfft2(spectrum, s=self.map_size, dim=(1, 2), norm="ortho")
        return filtered.flatten(1, 2)
