"""Weights to start a new net from: those that come with the package, or those that the authors of GFNet published.

Parameters have the same names everywhere. The weights are adapted where these differ: colour or grey pictures, the grid
of tokens, filters with half of the rows, the number of classes.

Axes: H x W tokens of the model, h x w tokens of the weights, C channels.
"""

import logging
import pickle
import re
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_pl.errors import UserError, one_line
from gfnet_pl.model.arguments import VARIANTS, in_words, per_stage
from gfnet_pl.model.gfnet import GFNet

logger = logging.getLogger(__name__)

SMALL = "small"  # as model.pretrained: the nets that come with the package
_SMALL_PATCHES = 4, 8
_SMALL_FITS = {"stem": "conv", "dim": 96, "depth": 4, "mlp_ratio": 4}
_FIRST = "patch_embed.proj.0.weight"  # of a stem of convolutions
PUBLISHED = f"the file of {', '.join(VARIANTS)}"


def start_from(model: GFNet, pretrained: str) -> None:
    """Gives a new net the weights that `model.pretrained` names: SMALL, or the file of published ones.

    Raises:
        UserError: As for `read_authors_weights` and `load_authors_weights`.
    """
    if pretrained == SMALL:
        _load_small_weights(model)
    else:
        load_authors_weights(model, read_authors_weights(Path(pretrained)))


def check_pretrained(pretrained: str, arguments: Mapping[str, Any]) -> None:
    """Refuses what `start_from` could not use, before any data are read.

    Args:
        pretrained: As for `start_from`.
        arguments: All arguments of the net, by name.

    Raises:
        UserError: The net is not one of those that come with the package, or the file holds no weights.
    """
    if pretrained != SMALL:
        read_authors_weights(Path(pretrained))
    elif not comes_with_weights(arguments):
        needed = " ".join(f"--model.{name} {value}" for name, value in _SMALL_FITS.items() if name != "mlp_ratio")
        raise UserError(f"model.pretrained {SMALL} needs {needed}, and a --model.patch_size of 4 or 8; or drop it")


def comes_with_weights(arguments: Mapping[str, Any]) -> bool:
    """Whether a net of these arguments, which may lack the usual mlp_ratio, can start from SMALL."""
    fits = all(arguments.get(name, value) == value for name, value in _SMALL_FITS.items())
    return fits and arguments["patch_size"] in _SMALL_PATCHES


def small_file(patch_size: int) -> Path:
    """The weights for patches of this side that come with the package; benchmarks/pretraining.py makes them."""
    return Path(__file__).with_name("small") / f"patch{patch_size}.pt"


def _load_small_weights(model: GFNet) -> None:
    """The head stays as it is, and so does the normalisation: the weights expect pictures of mean 0 and deviation 1."""
    own = model.state_dict()
    weights: dict[str, Tensor] = torch.load(
        small_file(model.image_size[0] // model.map_size[0]), map_location="cpu", weights_only=True
    )
    loaded = {name: value.to(own[name]) for name, value in weights.items()}
    channels = own[_FIRST].shape[1]
    loaded[_FIRST] = loaded[_FIRST].expand(-1, channels, -1, -1) / channels  # they saw grey, the mean of the colours
    filters = weights["blocks.0.filter.complex_weight"]
    _adapt_grid(loaded, model, (filters.shape[0], weights["pos_embed"].shape[1] // filters.shape[0]))
    model.load_state_dict(own | loaded)
    logger.info("the net starts from weights of drawn pictures that come with the package: docs/small-data.md")


def read_authors_weights(file: Path) -> dict[str, Tensor]:
    """Reads a file of weights that Rao et al. published (https://github.com/raoyongming/GFNet).

    Args:
        file: For example gfnet-xs.pth.

    Returns:
        Tensors by name, for `load_authors_weights`.

    Raises:
        UserError: The file is missing, or does not hold such weights.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"model.pretrained: {file} does not exist") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise UserError(f"model.pretrained: {file} cannot be read as weights ({one_line(error)})") from None
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise UserError(f"model.pretrained: {file} holds no weights by name; give {PUBLISHED}")
    return weights


def load_authors_weights(model: GFNet, state_dict: Mapping[str, Tensor]) -> None:
    """Load a GFNet that Rao et al. published (https://github.com/raoyongming/GFNet) into `model`, in place.

    - If the model takes grey pictures, the weights of the three colours are added up. This is right for grey pictures
      that are normalised as the authors normalise each colour, to about mean 0 and standard deviation 1. The model's
      own normalisation stays as it is.
    - The hierarchical nets' names, in which each stage counts its blocks anew, become ours.
    - If the model has another grid of tokens, positions are resized bicubically, as the authors do. Filters are resized
      bicubically too, over signed frequencies in cycles per token, so that frequency zero stays where it is. (The
      authors resize the rows of a filter in the order in which rfft2 stores them. That treats frequency 6 of 12 as
      a neighbour of 7, which stands for -5.)
    - If the model's filters have half of the rows, it gets the mean of rows k and -k.
    - If the model has another number of classes, its head stays as it is.

    One line in the log says what was taken and adapted.

    Args:
        model: A GFNet with the dim, depth, mlp_ratio, layer_scale and patch_size of the weights, see `VARIANTS`.
        state_dict: Tensors by name, as in the "model" entry of a published file.

    Raises:
        UserError: If the weights are not those of a GFNet, or their dim, depth or another size differs from the
            model's. The model is then unchanged.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in ("mean", "std")}
    state_dict = _in_our_names(state_dict)
    _check_names(state_dict, own)
    old_map = _check_shapes(state_dict, own)

    loaded = {name: state_dict[name].detach().to(own[name]) for name in own}
    taken = [f"{len(model.blocks)} blocks of dim {in_words(_dims(own))}"]
    if model.patch_embed.proj.in_channels == 1:
        loaded["patch_embed.proj.weight"] = loaded["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
        taken.append("colours summed to grey")
    _adapt_grid(loaded, model, old_map)
    if old_map != model.map_size:
        old, new = (f"{height} x {width}" for height, width in (old_map, model.map_size))
        taken.append(f"positions and filters resized from {old} to {new} tokens")
    classes, own_classes = len(loaded["head.bias"]), len(own["head.bias"])
    if classes != own_classes:
        taken.append(f"head is new: {classes} classes there, {own_classes} here")
        loaded |= {name: own[name] for name in ("head.weight", "head.bias")}
    model.load_state_dict(loaded | {"mean": model.mean, "std": model.std})
    logger.log(logging.INFO if classes == own_classes else logging.WARNING, "published weights: %s", "; ".join(taken))


def _check_names(state_dict: Mapping[str, Tensor], own: dict[str, Tensor]) -> None:
    if "patch_embed.proj.weight" not in own:
        raise UserError("model.pretrained: the published nets make a token of each patch in one step: drop model.stem")
    for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.filter.complex_weight", "norm.weight", "head.bias"):
        if not isinstance(state_dict.get(name), Tensor):
            raise UserError(
                f"{name}: not in the weights, so they are no GFNet's; give the 'model' entry of {PUBLISHED}"
            )
    dims, depths = _dims(state_dict), _depths(state_dict)
    for name, theirs, ours in (("dim", dims, _dims(own)), ("depth", depths, _depths(own))):
        if theirs != ours:
            raise UserError(
                f"model.pretrained: the weights have {name} {in_words(theirs)}, the net has {in_words(ours)}: "
                f"{_advice(dims, depths)}"
            )
    for name in sorted(own.keys() ^ state_dict.keys()):
        where = "not in the weights" if name in own else "not in such a GFNet"
        raise UserError(f"{name}: {where}; give the 'model' entry of {PUBLISHED}")


def _in_our_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a hierarchical net, whose stages count their blocks anew, under the names of GFNet."""
    if "patch_embed.0.proj.weight" not in state_dict:
        return dict(state_dict)
    found = filter(None, map(re.compile(r"blocks\.(\d+)\.(\d+)\.").match, state_dict))
    blocks = sorted({(int(match[1]), int(match[2])) for match in found})  # by stage and number in it

    def ours(name: str) -> str:
        if match := re.match(r"blocks\.(\d+)\.(\d+)\.", name):
            return f"blocks.{blocks.index((int(match[1]), int(match[2])))}.{name[match.end() :]}"
        if match := re.match(r"patch_embed\.(\d+)\.", name):
            first = (int(match[1]), 0)
            if first == (0, 0):
                return f"patch_embed.{name[match.end() :]}"
            if first in blocks:
                return f"blocks.{blocks.index(first)}.down.{name[match.end() :]}"
        return name

    return {ours(name): tensor for name, tensor in state_dict.items()}


def _stages(state_dict: Mapping[str, Tensor]) -> list[int]:
    """The first block of each stage."""
    found = (re.match(r"blocks\.(\d+)\.down\.proj\.weight", name) for name in state_dict)
    return [0, *sorted(int(match[1]) for match in found if match)]


def _dims(state_dict: Mapping[str, Tensor]) -> tuple[int, ...]:
    downs = [state_dict[f"blocks.{first}.down.proj.weight"] for first in _stages(state_dict)[1:]]
    return (*(down.shape[1] if down.ndim > 1 else 0 for down in downs), state_dict["norm.weight"].numel())


def _depths(state_dict: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = 1 + max(int(match[1]) for match in map(re.compile(r"blocks\.(\d+)\.").match, state_dict) if match)
    return tuple(after - before for before, after in pairwise([*_stages(state_dict), blocks]))


def _advice(dims: tuple[int, ...], depths: tuple[int, ...]) -> str:
    for variant, arguments in VARIANTS.items():
        if (per_stage(arguments["dim"]), per_stage(arguments["depth"])) == (dims, depths):
            return f"give --model.variant {variant}"
    return f"build it with dim={in_words(dims)}, depth={in_words(depths)}"


def _check_shapes(state_dict: Mapping[str, Tensor], own: dict[str, Tensor]) -> tuple[int, int]:
    """Raise an error for shapes that cannot be adapted, and return the grid of the weights (h, w)."""
    dims, classes = _dims(own), state_dict["head.bias"].numel()
    filters = state_dict["blocks.0.filter.complex_weight"]
    height = max(1, filters.shape[0] if filters.ndim else 1)
    width = state_dict["pos_embed"].numel() // dims[0] // height
    _, in_channels, *patch = own["patch_embed.proj.weight"].shape

    needed = {name: tuple(tensor.shape) for name, tensor in own.items()}
    for name, stage in _filters(own).items():
        needed[name] = (height >> stage, (width >> stage) // 2 + 1, dims[stage], 2)
    needed |= {"pos_embed": (1, height * width, dims[0]), "head.weight": (classes, dims[-1]), "head.bias": (classes,)}
    if in_channels == 1 and state_dict["patch_embed.proj.weight"].shape[1:2] == (3,):
        needed["patch_embed.proj.weight"] = (dims[0], 3, *patch)
    for name, shape in needed.items():
        if tuple(state_dict[name].shape) != shape:
            raise UserError(
                f"{name}: the weights have shape {tuple(state_dict[name].shape)}, the model needs {shape}; "
                "build it with the weights' patch_size, in_channels and mlp_ratio"
            )
    return height, width


def _adapt_grid(loaded: dict[str, Tensor], model: GFNet, old_map: tuple[int, int]) -> None:
    """Brings positions and filters of another grid of tokens, in place, to the model's grid and stored rows."""
    own = model.state_dict()
    if old_map != model.map_size:
        loaded["pos_embed"] = _resize_positions(loaded["pos_embed"], old_map, model.map_size)
    for name, stage in _filters(own).items():
        old, new = ((height >> stage, width >> stage) for height, width in (old_map, model.map_size))
        resized = loaded[name] if old == new else _resize_filter(loaded[name], old, new)
        loaded[name] = _fold_rows(resized, stored_rows=len(own[name]))


def _filters(own: Mapping[str, Tensor]) -> dict[str, int]:
    """The names of the filters' weights, and the stage of each, from 0."""
    names = [name for name in own if name.endswith("filter.complex_weight")]
    starts = _stages(own)
    return {name: bisect_right(starts, int(name.split(".")[1])) - 1 for name in names}


def _resize_positions(positions: Tensor, old_map: tuple[int, int], new_map: tuple[int, int]) -> Tensor:
    """Resize positions (1, h * w, C) to (1, H * W, C)."""
    grid = positions.mT.reshape(1, -1, *old_map)  # (1, C, h, w)
    return F.interpolate(grid, size=new_map, mode="bicubic", align_corners=False).flatten(2).mT


def _resize_filter(weight: Tensor, old_map: tuple[int, int], new_map: tuple[int, int]) -> Tensor:
    """Interpolate a filter (h, w // 2 + 1, C, 2) at the frequencies of the new map: (H, W // 2 + 1, C, 2)."""
    (old_height, old_width), (new_height, new_width) = old_map, new_map
    margin = 3  # extra rows on either side for the bicubic kernel; they repeat, because the spectrum is periodic
    shifted = torch.fft.fftshift(weight, dim=0).flatten(2).movedim(-1, 0)  # (2C, h, w // 2 + 1)
    rows = torch.arange(-margin, old_height + margin, device=weight.device) % old_height
    padded = shifted[:, rows]

    # Where the new frequencies, in cycles per token, lie in `padded`.
    row = torch.fft.fftfreq(new_height, device=weight.device) * old_height + old_height // 2 + margin
    column = torch.fft.rfftfreq(new_width, device=weight.device) * old_width
    y, x = (2 * at / max(n - 1, 1) - 1 for at, n in zip((row, column), padded.shape[1:], strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (H, W // 2 + 1, 2)
    resized = F.grid_sample(
        padded[None], grid[None].to(weight.dtype), mode="bicubic", padding_mode="border", align_corners=True
    )
    return resized[0].movedim(0, -1).reshape(new_height, new_width // 2 + 1, *weight.shape[2:])


def _fold_rows(full: Tensor, stored_rows: int) -> Tensor:
    """Turn a filter of H rows into one of `stored_rows`: where these are H // 2 + 1, row k is the mean of k and -k."""
    if stored_rows == full.shape[0]:
        return full
    mirrored = full.flip(0).roll(1, dims=0)  # row k holds row -k
    return ((full + mirrored) / 2)[:stored_rows]
