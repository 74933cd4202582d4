"""Random changes of a whole batch on its device, for training only: where, how large and how bright a hand is.

Every image has its own parameters, a function of the image's seed alone (a counter-based generator: splitmix64, Steele,
Lea and Flood, OOPSLA 2014), so equal seeds give equal batches on any number of ranks, workers and resumes. All ranges
are 0 by default, which switches a change off. With all of them off a batch is returned as it is. Images have
levels from 0 to 255: normalisation is the network's. The channels of a coloured image change together, and its contrast
changes about each channel's mean, so that its colours stay. C is the number of channels.
"""

import math
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_pl.errors import check_range

# Uniform numbers per image. Each kind of change reads its own, so that one more or less changes no other. Numbers 1, 6,
# 7, 11 and 12 are free.
_DRAWS = 24
_QUANTILES = 4096


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
        gamma: 0.5 draws an exponent from 1 / 1.5 to 1.5, evenly in its logarithm.
        erasing: Probability that a rectangle of 2 to 33 % of the image becomes one grey (Zhong et al., "Random Erasing
            Data Augmentation", AAAI 2020).
        mixup: Parameter of the Beta distribution by which two images of the batch and their labels are blended (Zhang
            et al., "mixup", ICLR 2018).
        cutmix: The same, for a rectangle of another image (Yun et al., "CutMix", ICCV 2019). With both, each image gets
            one of the two.

    Raises:
        UserError: A value is out of range.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        most = {"rotation": 180, "scale": 0.9, "gamma": 9, "mixup": 100, "cutmix": 100}
        for field in fields(self):
            limit = most.get(field.name, 1)
            check_range(f"data.augment.{field.name}", getattr(self, field.name), least=0, most=limit)

    @property
    def off(self) -> bool:
        """Whether nothing is changed."""
        return not any(getattr(self, field.name) for field in fields(self))

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, seeds: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Changes a batch.

        Args:
            images: (B, C, H, W) levels, 0 to 255.
            labels: (B,) int64.
            seeds: (B,) int64, one per image.
            classes: How many there are.

        Returns:
            (B, C, H, W) float32 levels, 0 to 255, and the labels; with mixup or cutmix these are (B, classes)
            shares, of which the image's own class has at least half.
        """
        if self.off:
            return images, labels
        draws = uniforms(seeds, _DRAWS)
        images = images.float()
        if self.rotation or self.scale or self.shift or self.flip:
            images = self._move(images, draws[:, 0:7])
        if self.contrast or self.brightness or self.gamma:
            images = self._expose(images, draws[:, 8:11])
        if self.erasing:
            images = self._erase(images, draws[:, 13:19])
        if self.mixup or self.cutmix:
            images, labels = self._mix(images, labels, draws[:, 19:23], classes)
        return images, labels

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
        contrast, brightness, gamma = (2 * draws - 1)[:, :, None, None, None].unbind(1)
        if self.contrast or self.brightness:
            factor, mean = 1 + self.contrast * contrast, images.mean((2, 3), keepdim=True)
            images = torch.addcmul(mean * (1 - factor) + 255 * self.brightness * brightness, images, factor)
        images = images.clamp(0, 255)
        if self.gamma:
            images = 255 * (images / 255) ** torch.exp(gamma * math.log1p(self.gamma))
        return images

    def _erase(self, images: Tensor, draws: Tensor) -> Tensor:
        hit, area, aspect, x, y, grey = draws.unbind(1)
        ratio = torch.exp((2 * aspect - 1) * math.log(3.3))  # 0.3 to 3.3
        area = 0.02 + 0.31 * area
        inside = _rectangles(images, (area * ratio).sqrt(), (area / ratio).sqrt(), x, y)
        inside &= (hit < self.erasing)[:, None, None, None]
        return torch.where(inside, 255 * grey[:, None, None, None], images)

    def _mix(self, images: Tensor, labels: Tensor, draws: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Each image with the one before it: the batch's order is random."""
        which, level, x, y = draws.unbind(1)
        cut = (which < 0.5) if self.mixup and self.cutmix else torch.full_like(which, self.cutmix > 0).bool()
        place = (level * _QUANTILES).long()
        share = torch.where(cut, _beta(self.cutmix, place.device)[place], _beta(self.mixup, place.device)[place])
        other = images.roll(1, 0)
        side = (1 - share).sqrt()
        inside = _rectangles(images, side, side, x, y)
        kept = torch.where(cut, 1 - inside.float().mean((1, 2, 3)), share)  # the rectangle in whole pixels
        weight = torch.where(cut[:, None, None, None], (~inside).float(), share[:, None, None, None])
        own = F.one_hot(labels, classes).float()
        return torch.lerp(other, images, weight), torch.lerp(own.roll(1, 0), own, kept[:, None])


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


@cache
def _beta(parameter: float, device: torch.device) -> Tensor:
    """(4096,) quantiles of Beta(parameter, parameter), folded so that the image's own share is at least half.

    They stay on the device: from a processor's memory a GPU would fetch them, and wait, in each step.
    """
    if not parameter:
        return torch.ones(_QUANTILES, device=device)
    draws = np.random.default_rng(0).beta(parameter, parameter, 16 * _QUANTILES)
    quantiles = np.sort(np.maximum(draws, 1 - draws))[8::16]
    return torch.from_numpy(quantiles).float().to(device)


def _rectangles(images: Tensor, height: Tensor, width: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, H, W) whether a pixel is inside its image's rectangle; sizes and places as shares of the image."""
    rows, columns = images.shape[2:]
    top, left = (y * (1 - height).clamp(min=0))[:, None], (x * (1 - width).clamp(min=0))[:, None]
    down = (torch.arange(rows, device=images.device) + 0.5) / rows
    across = (torch.arange(columns, device=images.device) + 0.5) / columns
    in_row = (down >= top) & (down < top + height[:, None])
    in_column = (across >= left) & (across < left + width[:, None])
    return (in_row[:, :, None] & in_column[:, None, :])[:, None]
