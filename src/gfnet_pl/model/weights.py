"""A net in one file without pickle: safetensors, with the net's arguments and its classes in the file's metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gfnet_pl.errors import UserError, one_line, require

if TYPE_CHECKING:  # who only asks for the file's name need not wait for torch
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
_BESIDE = "beside."  # no parameter of a net begins so


class Stored(NamedTuple):
    """What such a file holds.

    Attributes:
        arguments: Of the class GFNet.
        classes: Names in the order of the logits.
        state: The net's state dict.
        beside: Other tensors by name.
    """

    arguments: dict[str, Any]
    classes: list[str]
    state: "dict[str, Tensor]"
    beside: "dict[str, Tensor]"


def write_weights(
    file: Path,
    net: "nn.Module",
    arguments: dict[str, Any],
    classes: list[str],
    beside: "Mapping[str, Tensor] | None" = None,
) -> None:
    """Writes a net.

    Args:
        file: The file to write.
        net: A GFNet.
        arguments: Its arguments, as values that JSON can store.
        classes: Names in the order of the logits.
        beside: Further tensors to store.

    Raises:
        UserError: safetensors is missing.
    """
    require("safetensors", what=WEIGHTS)
    from safetensors.torch import save

    tensors = net.state_dict() | {_BESIDE + name: value for name, value in (beside or {}).items()}
    state = {name: value.contiguous() for name, value in tensors.items()}
    metadata = {"format": "pt", "gfnet": json.dumps(arguments), "classes": json.dumps(classes)}
    file.write_bytes(save(state, metadata))  # its own way to write a file lets only the owner read it


def read_weights(path: Path) -> Stored:
    """Reads a net.

    Args:
        path: The file, or the folder of an export.

    Raises:
        UserError: The file is missing or damaged, is not of a GFNet, or safetensors is missing.
    """
    require("safetensors", what=WEIGHTS)
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS if path.is_dir() else path
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}
        state = {name: value for name, value in tensors.items() if not name.startswith(_BESIDE)}
        others = {name.removeprefix(_BESIDE): value for name, value in tensors.items() if name not in state}
        return Stored(json.loads(metadata["gfnet"]), json.loads(metadata["classes"]), state, others)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; give a folder that gfnet export wrote") from None
    except KeyError:
        raise UserError(f"{file} is no net that gfnet export wrote") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged ({one_line(error)}): run gfnet export again") from None
