"""Random changes of a whole batch on its device, for training only: where, how large and how bright a hand is.

Every image has its own parameters, a function of the image's seed alone (a counter-based generator: splitmix64, Steele,
Lea and Flood, OOPSLA 2014), so equal seeds give equal batches on any number of ranks, workers and resumes. All ranges
are 0 by default, which switches a change off. With all of them off a batch is returned as it is. Images have
levels from 0 to 255: normalisation is the network's. The channels of a coloured image change together, and its contrast
changes about each channel's mean, so that its colours stay. C is the number of channels.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_pl.errors import check_range

# Uniform numbers per image. Each kind of change reads its own, so that one more or less changes no other. Numbers 1, 6,
# 7 and 10 to 12 are free.
_DRAWS = 19


@dataclass(frozen=True)
class Augment:
    """What may happen to a training image.

    Args:
        rotation: Largest turn either way, in degrees.
        scale: 0.2 draws a factor from 0.8 to 1.2.
        shift: Largest move either way, down and across, as a share of the image's side.
        flip: Probability of a horizontal mirror image. A mirrored left hand is a right hand: leave it 0 unless the
            signs mean the same with either.
        brightness: Largest offset either way, as a share of the grey range.
        contrast: 0.3 draws a factor from 0.7 to 1.3, about the image's mean.
        erasing: Probability that a rectangle of 2 to 33 % of the image becomes one grey (Zhong et al., "Random Erasing
            Data Augmentation", AAAI 2020).

    Raises:
        UserError: A value is out of range.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        most = {"rotation": 180, "scale": 0.9}
        for field in fields(self):
            limit = most.get(field.name, 1)
            check_range(f"data.augment.{field.name}", getattr(self, field.name), least=0, most=limit)

    @property
    def off(self) -> bool:
        """Whether nothing is changed."""
        return not any(getattr(self, field.name) for field in fields(self))

    @torch.no_grad()
    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Changes a batch.

        Args:
            images: (B, C, H, W) levels, 0 to 255.
            seeds: (B,) int64, one per image.

        Returns:
            (B, C, H, W) float32 levels, 0 to 255; with everything off the very images.
        """
        if self.off:
            return images
        draws = uniforms(seeds, _DRAWS)
        images = images.float()
        if self.rotation or self.scale or self.shift or self.flip:
            images = self._move(images, draws[:, 0:7])
        if self.contrast or self.brightness:
            images = self._expose(images, draws[:, 8:10])
        if self.erasing:
            images = self._erase(images, draws[:, 13:19])
        return images

    def _move(self, images: Tensor, draws: Tensor) -> Tensor:
        """One affine map about the centre, bilinear; what comes in from outside is the mirrored picture."""
        height, width = images.shape[2:]
        turn, _, across, down = (2 * draws[:, :4] - 1).unbind(1)
        turn = turn * math.radians(self.rotation)
        factor = 1 + (2 * draws[:, 4] - 1) * self.scale
        mirror = torch.where(draws[:, 5] < self.flip, -1.0, 1.0)
        cos, sin = turn.cos() / factor, turn.sin() / factor
        # From output to input in grid_sample's coordinates: -1 to 1 over each side. F.affine_grid takes three times as
        # long on a CPU, as a product of many tiny matrices.
        x, y = _centres(width, images.device), _centres(height, images.device)
        x_by_x, x_by_y = mirror * cos, -mirror * sin * height / width
        y_by_x, y_by_y = sin * width / height, cos
        grid = images.new_empty(len(images), height, width, 2)
        for axis, by_x, by_y, move in ((0, x_by_x, x_by_y, across), (1, y_by_x, y_by_y, down)):
            along, beside = _outer(by_x, x), _outer(by_y, y) + 2 * self.shift * move[:, None]
            torch.add(along[:, None], beside[:, :, None], out=grid[..., axis])
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _expose(self, images: Tensor, draws: Tensor) -> Tensor:
        contrast, brightness = (2 * draws - 1)[:, :, None, None, None].unbind(1)
        factor, mean = 1 + self.contrast * contrast, images.mean((2, 3), keepdim=True)
        return torch.addcmul(mean * (1 - factor) + 255 * self.brightness * brightness, images, factor).clamp(0, 255)

    def _erase(self, images: Tensor, draws: Tensor) -> Tensor:
        hit, area, aspect, x, y, grey = draws.unbind(1)
        ratio = torch.exp((2 * aspect - 1) * math.log(3.3))  # 0.3 to 3.3
        area = 0.02 + 0.31 * area
        inside = _rectangles(images, (area * ratio).sqrt(), (area / ratio).sqrt(), x, y)
        inside &= (hit < self.erasing)[:, None, None, None]
        return torch.where(inside, 255 * grey[:, None, None, None], images)


def uniforms(seeds: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the seeds only: splitmix64's output, counted on from each seed.

    Args:
        seeds: (B,) int64.
        count: Numbers per seed.

    Returns:
        (B, count) float32, multiples of 2 ** -24.
    """
    x = seeds[:, None] + torch.arange(1, count + 1, device=seeds.device) * -0x61C8864680B583EB  # wraps, as it should
    x = (x ^ _shift_right(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift_right(x, 27)) * -0x6B2FB644ECCEEE15
    return _shift_right(x ^ _shift_right(x, 31), 40).float() * 2.0**-24


def _centres(count: int, device: torch.device) -> Tensor:
    """The middles of `count` pixels, from -1 to 1 over the side."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1


def _outer(factors: Tensor, values: Tensor) -> Tensor:
    return factors[:, None] * values


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch's own keeps the sign


def _rectangles(images: Tensor, height: Tensor, width: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, H, W) whether a pixel is inside its image's rectangle; sizes and places as shares of the image."""
    rows, columns = images.shape[2:]
    top, left = (y * (1 - height).clamp(min=0))[:, None], (x * (1 - width).clamp(min=0))[:, None]
    down = (torch.arange(rows, device=images.device) + 0.5) / rows
    across = (torch.arange(columns, device=images.device) + 0.5) / columns
    in_row = (down >= top) & (down < top + height[:, None])
    in_column = (across >= left) & (across < left + width[:, None])
    return (in_row[:, :, None] & in_column[:, None, :])[:, None]
