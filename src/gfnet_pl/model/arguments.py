"""What a GFNet can be built of: its arguments, checked before anything is built, and those of its authors' nets."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

from gfnet_pl.errors import check_range
from gfnet_pl.model.global_filter import stored_size
from gfnet_pl.model.stem import Stem

# What is larger is a slip, and would fill the memory, or the disk with decoded pictures.
LARGEST_SIDE, MOST_CHANNELS, MOST_BLOCKS = 4096, 65_536, 1000

Variant = Literal["gfnet-ti", "gfnet-xs", "gfnet-s", "gfnet-b", "gfnet-h-ti", "gfnet-h-s", "gfnet-h-b"]


def _variant(dim: int | tuple[int, ...], depth: int | tuple[int, ...], layer_scale: float | None) -> dict[str, Any]:
    patch_size = 16 if isinstance(dim, int) else 4
    return {
        "patch_size": patch_size,
        "stem": "patch",
        "dim": dim,
        "depth": depth,
        "mlp_ratio": 4,
        "layer_scale": layer_scale,
    }


# The shapes of the nets that GFNet's authors published, for pictures of 224 x 224: https://github.com/raoyongming/GFNet
VARIANTS: dict[Variant, dict[str, Any]] = {
    "gfnet-ti": _variant(256, 12, None),
    "gfnet-xs": _variant(384, 12, None),
    "gfnet-s": _variant(384, 19, None),
    "gfnet-b": _variant(512, 19, None),
    "gfnet-h-ti": _variant((64, 128, 256, 512), (3, 3, 10, 3), 1e-3),
    "gfnet-h-s": _variant((96, 192, 384, 768), (3, 3, 10, 3), 1e-5),
    "gfnet-h-b": _variant((96, 192, 384, 768), (3, 3, 27, 3), 1e-6),
}


def with_variant(variant: Variant | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the arguments of one of the authors' nets to others.

    Args:
        variant: The net's name; None adds nothing.
        arguments: Arguments of GFNet, by name.

    Raises:
        ValueError: One of them contradicts the net.
    """
    own = VARIANTS[variant] if variant else {}
    for name, value in own.items():
        given = arguments.get(name, value)
        if (tuple(given) if isinstance(given, list) else given) != value:
            raise ValueError(
                f"{name} is {json.dumps(given)}, and {variant} has {json.dumps(value)}: drop one of the two"
            )
    return {**arguments, **own}


def per_stage(number: int | Sequence[int]) -> tuple[int, ...]:
    """A number of each stage: of one stage, or of several."""
    return (number,) if isinstance(number, int) else tuple(number)


def in_words(number: int | Sequence[int]) -> str:
    """A number of each stage as an option would have it: 96, or [64, 128]."""
    numbers = per_stage(number)
    return str(numbers[0] if len(numbers) == 1 else list(numbers))


def check_arguments(
    image_size: int | tuple[int, int],
    patch_size: int,
    in_channels: int,
    num_classes: int,
    dim: int | Sequence[int],
    depth: int | Sequence[int],
    mlp_ratio: float,
    filter_size: Literal["full"] | Sequence[int],
    dropout: float,
    drop_path: float,
    layer_scale: float | None,
    stem: str,
    shifted_views: bool,
    mirrored_views: bool,
) -> None:
    """Checks the arguments of GFNet, which describes them and the error, without building anything."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    dims, depths = per_stage(dim), per_stage(depth)
    check = partial(check_range, error=ValueError)
    check("image_size", min(height, width), least=1)
    check("image_size", max(height, width), most=LARGEST_SIDE)
    for name, count in (("patch_size", patch_size), ("in_channels", in_channels), ("num_classes", num_classes)):
        check(name, count, least=1)
    if not dims or len(dims) != len(depths):
        raise ValueError(f"dim has {len(dims)} stages and depth {len(depths)}: give both a number for each stage")
    for channels in dims:
        check("dim", channels, least=1, most=MOST_CHANNELS)
    check("depth", min(depths), least=1)
    check("depth", sum(depths), most=MOST_BLOCKS)
    check("mlp_ratio", mlp_ratio, least=1 / min(dims), most=MOST_CHANNELS / max(dims))  # at least one hidden channel
    check("dropout", dropout, least=0, below=1)
    check("drop_path", drop_path, least=0, below=1)
    check("layer_scale", layer_scale, above=0)
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image_size {height} x {width} cannot be cut into patches of {patch_size} x {patch_size}: "
            f"use a patch_size that divides both, such as {_nearest_divisor(height, width, patch_size)}"
        )
    coarsest = patch_size * 2 ** (len(dims) - 1)
    if height % coarsest or width % coarsest:
        raise ValueError(
            f"image_size {height} x {width} cannot be halved to {len(dims)} stages from patches of {patch_size}: "
            f"use a multiple of {coarsest}"
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
    if len(dims) > 1 and filter_size != "full":
        raise ValueError(
            f"filter_size {filter_size!r} is that of one map, and {len(dims)} stages have as many: use full"
        )
    stored_size((height // patch_size, width // patch_size), filter_size)


def _nearest_divisor(height: int, width: int, patch_size: int) -> int:
    common = math.gcd(height, width)
    return min((size for size in range(1, common + 1) if common % size == 0), key=lambda size: abs(size - patch_size))
