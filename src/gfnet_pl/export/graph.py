"""A net as an ONNX graph that takes grey levels and gives logits, calibrated probabilities and features.

What a user of the net would otherwise have to repeat is inside: normalisation, temperature, distance from what was
learned. PyTorch's exporter of `torch.export` writes it (8 s for the base net). The older one, by TorchScript,
takes 1 s and gives as fast a graph, but PyTorch has deprecated it, and Python 3.14 has no TorchScript.

Axes: B images, C channels, K classes, D features.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_pl.errors import require
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.model.global_filter import GlobalFilter
from gfnet_pl.run.export import Description

OPSET = 20  # the first with Gelu; onnxruntime has it since 1.17
INPUT = "images"
OUTPUTS = {
    "logits": "float32 (batch, classes)",
    "probabilities": "float32 (batch, classes), the softmax of the logits divided by the temperature",
    "features": "float32 (batch, features), from which the last layer classifies",
}
DISTANCE = "distance"
OF_DISTANCE = "float32 (batch), from what the net learned, in standard deviations: the larger, the less familiar"


class Exported(nn.Module):
    """A net with calibration.

    Args:
        net: The net; its filters use matrices from now on.
        calibration: Whose temperature and familiarity are used.
    """

    def __init__(self, net: GFNet, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        for module in net.modules():
            if isinstance(module, GlobalFilter):
                module.use_matrices()
        self.temperature = calibration.temperature
        learned = calibration.familiarity
        self.means: Tensor | None
        self.whitening: Tensor | None
        self.register_buffer("means", None if learned is None else torch.from_numpy(learned.means))
        self.register_buffer("whitening", None if learned is None else torch.from_numpy(learned.whitening))

    @property
    def learned(self) -> dict[str, Tensor]:
        """The arrays of `Familiarity` by name, if there are any."""
        return {name: value for name, value in self.named_buffers(recurse=False)}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, height, width) uint8 -> logits (B, K), probabilities (B, K), features (B, D), and distance (B)."""
        features = self.net.features(images)
        logits = self.net.head(features)
        probabilities = (logits / self.temperature).softmax(1)
        if self.means is None or self.whitening is None:
            return logits, probabilities, features
        away = (features @ self.whitening).unsqueeze(1) - self.means  # (B, K, D)
        return logits, probabilities, features, away.square().sum(2).amin(1).sqrt()


def write_onnx(file: Path, exported: Exported, description: Description) -> None:
    """Writes the graph with the description as metadata: one entry per field, as JSON.

    Raises:
        UserError: A package is missing.
    """
    require("onnx", "onnxscript", what="gfnet export")
    import onnx

    net = exported.net
    example = torch.zeros(2, len(net.mean), *net.image_size, dtype=torch.uint8)  # of one, the batch would be fixed
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            exported.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=list(description.outputs),
            opset_version=description.opset,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model.graph)
    model.producer_name, model.producer_version, model.doc_string = "gfnet_pl", description.version, ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in vars(description).items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def _strip(graph: Any) -> None:  # noqa: ANN401  (a class that protobuf makes)
    """Removes what the exporter tells of this machine: every node has the stack, with its paths.

    The shapes in between go, too: nobody needs them, and older exporters left wrong ones behind.
    """
    graph.doc_string, graph.name = "", "gfnet"
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not here, and on what PyTorch itself does."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
