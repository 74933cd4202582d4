"""What is kept of a picture to compare it with others: a small grey thumbnail, its outline, and a digest of its pixels.

An outline holds the 64 lowest frequencies of the thumbnail's cosine transform, those of which the perceptual hash
"pHash" keeps the signs; their values are kept here instead, and beside them the length of all that they leave out.

N pictures of H x W. Coloured ones are compared in grey, and are equal only if their colours are.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_pl.messages import follow

_SIDE = 32  # of a thumbnail; two frames of one clip correlate best when the grain is gone, and two signs at 16 x 16
_LOW = 8  # frequencies along an axis in an outline
_BLANK = 0.1  # a thumbnail's length, in grey levels, below which there is nothing to correlate
_READ = 256  # pictures read at a time


class Prints(NamedTuple):
    """What is kept of N pictures, 2.3 kB each.

    Attributes:
        thumbnails: (N, 1024) float16, each of mean 0 and length 1, so that a product of two is their correlation; 0
            where the picture is blank.
        outlines: (N, 65) float32, 64 lowest frequencies of the thumbnail and the length of the others.
        digests: (N,) uint64, equal where all pixels are equal.
    """

    thumbnails: Tensor
    outlines: Tensor
    digests: npt.NDArray[np.uint64]


def fingerprints(images: npt.NDArray[np.uint8], rows: npt.ArrayLike) -> Prints:
    """Reads pictures a few at a time, so that a memory map is never loaded whole.

    Args:
        images: (rows, H, W) or (rows, H, W, 3).
        rows: (N,) row of each picture, none below 0.
    """
    rows = np.asarray(rows, np.int64)
    height, width = images.shape[1:3]
    shrink_rows, shrink_columns = _averaging(height), _averaging(width).T
    waves = _cosines()
    thumbnails = torch.empty(len(rows), _SIDE**2, dtype=torch.float16)
    outlines = torch.empty(len(rows), _LOW**2 + 1)
    digests = np.empty(len(rows), np.uint64)
    for start in follow(range(0, len(rows), _READ), "reading pictures to compare"):
        part = slice(start, start + _READ)
        pixels = images[rows[part]]  # (B, H, W) or (B, H, W, 3), a copy
        digests[part] = _digests(pixels)
        small = shrink_rows @ _grey(pixels) @ shrink_columns  # (B, 32, 32)
        small -= small.mean((1, 2), keepdim=True)
        length = small.norm(dim=(1, 2), keepdim=True)
        small = torch.where(length < _BLANK, 0.0, small / length.clamp_min(_BLANK))
        low = (waves @ small @ waves.T).flatten(1)  # (B, 64)
        rest = (small.square().sum((1, 2)) - low.square().sum(1)).clamp_min(0).sqrt()
        thumbnails[part] = small.flatten(1).half()
        outlines[part] = torch.cat([low, rest[:, None]], 1)
    return Prints(thumbnails, outlines, digests)


def digests_of(images: npt.NDArray[np.uint8], rows: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """(N,) digests of pictures as in `Prints`, equal where all pixels are equal; arguments as for `fingerprints`."""
    rows = np.asarray(rows, np.int64)
    digests = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _READ):
        digests[start : start + _READ] = _digests(images[rows[start : start + _READ]])
    return digests


def _grey(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(B, H, W) float32 grey levels, by ITU-R 601."""
    levels = torch.from_numpy(pixels).float()
    return levels if levels.ndim == 3 else levels @ torch.tensor([0.299, 0.587, 0.114])


def _digests(pixels: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(hashlib.blake2b(picture, digest_size=8).digest(), "little") for picture in pixels]


def thumbnails_of(prints: Prints, positions: npt.NDArray[np.int64]) -> Tensor:
    """(P, 1024) float32 thumbnails at these positions; a product of two is a correlation."""
    rounded = prints.thumbnails[torch.from_numpy(positions)].float()
    length: Tensor = rounded.norm(dim=1, keepdim=True)  # float16 leaves it off by up to 2e-4
    return torch.where(length > 0, rounded / length, rounded)


def _averaging(length: int) -> Tensor:
    """(32, length) weights of a box average: how much of each pixel lies in each of 32 equal cells."""
    edges = torch.arange(_SIDE + 1, dtype=torch.float64) * length / _SIDE
    pixels = torch.arange(length, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp_min(0) * _SIDE / length).float()


def _cosines() -> Tensor:
    """(8, 32) the lowest rows of the orthonormal cosine transform (DCT-II)."""
    frequency, place = torch.arange(_LOW, dtype=torch.float64), torch.arange(_SIDE, dtype=torch.float64)
    waves = torch.cos(torch.pi / _SIDE * (place + 0.5) * frequency[:, None]) * math.sqrt(2 / _SIDE)
    waves[0] /= math.sqrt(2)
    return waves.float()
