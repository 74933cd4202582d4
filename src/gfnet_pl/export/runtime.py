"""A net that runs: by onnxruntime from a file, or by PyTorch. Both take and give NumPy arrays; neither needs the other.

Axes: B images, C channels, K classes, D features.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gfnet_pl.errors import UserError, one_line, require
from gfnet_pl.messages import follow
from gfnet_pl.processes import cores

if TYPE_CHECKING:
    from gfnet_pl.export.graph import Exported

BATCH = 64  # pictures at a time, at most: more are no faster, and take more memory
_PIXELS = BATCH * 192 * 192  # at a time, at most

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Outputs(NamedTuple):
    """What a net gives for B images.

    Attributes:
        logits: (B, K).
        probabilities: (B, K), calibrated.
        features: (B, D).
        distance: (B,) from what was learned; None if that was not measured.
    """

    logits: Floats
    probabilities: Floats
    features: Floats
    distance: Floats | None = None


class Runtime(Protocol):
    """Whatever runs a net."""

    def __call__(self, images: Images) -> Outputs:
        """Runs it on (B, C, height, width) levels."""
        ...


class OnnxRuntime:
    """A net in an ONNX file, run by onnxruntime on the CPU.

    Args:
        file: The file.
        threads: Number of threads; default: one for each core that this process may use.

    Raises:
        UserError: onnxruntime is missing, or cannot read the file.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        require("onnxruntime", what=file.name)
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()  # its own choice looks at the whole machine
        # Threads that wait would burn a core each: beside decoding, or other programs, that is slower, too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors: they are raised, too
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a dozen classes of its own
            raise UserError(f"{file} is damaged, or onnxruntime is too old for it ({one_line(error)})") from None

    def __call__(self, images: Images) -> Outputs:
        """See `Runtime`."""
        return Outputs(*self.session.run(None, {"images": images}))


class TorchRuntime:
    """A net in this process, run by PyTorch in float32.

    Args:
        exported: The net with its calibration.
        device: Where it runs, as PyTorch calls it.
    """

    def __init__(self, exported: "Exported", device: str = "cpu") -> None:
        self.exported, self.device = exported.to(device).eval(), device

    def __call__(self, images: Images) -> Outputs:
        """See `Runtime`."""
        import torch

        with torch.inference_mode():
            # What comes from a pipe may not be written to, and PyTorch would warn of that.
            given = torch.from_numpy(np.require(images, requirements="W")).to(self.device)
            return Outputs(*(value.cpu().numpy() for value in self.exported(given)))

    def on(self, device: str) -> "TorchRuntime":
        """The same net on another device; this one stays."""
        return TorchRuntime(copy.deepcopy(self.exported), device)


def channels_first(pixels: Images) -> Images:
    """Pictures as they are decoded, (B, H, W) or (B, H, W, 3) -> (B, C, H, W) as a net takes them."""
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def batch_of(height: int, width: int) -> int:
    """How many pictures of this size to run at a time: a net keeps a hundred numbers and more per pixel in memory."""
    return max(1, min(BATCH, _PIXELS // (height * width)))


def run_all(runtime: Runtime, pixels: Images, rows: npt.NDArray[np.int64] | None = None, title: str = "") -> Outputs:
    """Runs a net on many pictures, batch by batch; a live line shows how far it is.

    Args:
        runtime: The net.
        pixels: (rows, *canvas.shape) as they are decoded; it may be a memory map.
        rows: (N,) which of them; default: all. There must be one.
        title: Of the live line; default: none.
    """
    rows = np.arange(len(pixels)) if rows is None else rows
    step = batch_of(*pixels.shape[1:3])
    starts: Iterable[int] = range(0, len(rows), step)
    if title:
        starts = follow(starts, title)
    parts = [runtime(channels_first(pixels[rows[start : start + step]])) for start in starts]
    distances = [part.distance for part in parts if part.distance is not None]
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate(distances) if distances else None,
    )
