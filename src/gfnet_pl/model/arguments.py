"""What a GFNet can be built of: its arguments, checked before anything is built."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

from gfnet_pl.errors import check_range
from gfnet_pl.model.global_filter import stored_size
from gfnet_pl.model.stem import Stem

# What is larger is a slip, and would fill the memory, or the disk with decoded pictures.
LARGEST_SIDE, MOST_CHANNELS, MOST_BLOCKS = 4096, 65_536, 1000


def check_arguments(
    image_size: int | tuple[int, int],
    patch_size: int,
    in_channels: int,
    num_classes: int,
    dim: int,
    depth: int,
    mlp_ratio: float,
    filter_size: Literal["full"] | Sequence[int],
    dropout: float,
    drop_path: float,
    stem: str,
    shifted_views: bool,
    mirrored_views: bool,
) -> None:
    """Checks the arguments of GFNet, which describes them and the error, without building anything."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    check = partial(check_range, error=ValueError)
    check("image_size", min(height, width), least=1)
    check("image_size", max(height, width), most=LARGEST_SIDE)
    for name, count in (("patch_size", patch_size), ("in_channels", in_channels), ("num_classes", num_classes)):
        check(name, count, least=1)
    check("dim", dim, least=1, most=MOST_CHANNELS)
    check("depth", depth, least=1, most=MOST_BLOCKS)
    check("mlp_ratio", mlp_ratio, least=1 / dim, most=MOST_CHANNELS / dim)  # at least one hidden channel
    check("dropout", dropout, least=0, below=1)
    check("drop_path", drop_path, least=0, below=1)
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image_size {height} x {width} cannot be cut into patches of {patch_size} x {patch_size}: "
            f"use a patch_size that divides both, such as {_nearest_divisor(height, width, patch_size)}"
        )
    for name, given in (("shifted_views", shifted_views), ("mirrored_views", mirrored_views)):
        if not isinstance(given, bool):
            raise ValueError(f"{name} is {given!r}: it must be true or false")
    if stem not in get_args(Stem):
        raise ValueError(f"stem is {stem!r}: it must be one of {', '.join(get_args(Stem))}")
    if stem != "patch" and (patch_size < 2 or patch_size & (patch_size - 1)):
        raise ValueError(
            f"stem {stem} halves the image down to its patches: patch_size {patch_size} must be 2, 4, 8, 16 …"
        )
    stored_size((height // patch_size, width // patch_size), filter_size)


def _nearest_divisor(height: int, width: int, patch_size: int) -> int:
    common = math.gcd(height, width)
    return min((size for size in range(1, common + 1) if common % size == 0), key=lambda size: abs(size - patch_size))
