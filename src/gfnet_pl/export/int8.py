"""The net with weights of 8 bits: half of the size or less, and faster on a CPU. Kept only if it is nearly as good.

Weights are quantised per output channel, activations at run time (dynamic quantisation), in the products whose second
factor is constant: those of the MLPs. The Fourier matrices stand first, and stay in float32. Static quantisation was
tried, too: no faster and no better (docs/export.md).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfnet_pl.export.check import Checked

# The faster one first. Both are right on every CPU: those without VNNI add products of signed 8 bits in 16, where they
# overflow without a word, hence 7 bits. On a CPU with VNNI, unsigned ones take half as long again or more.
WAYS: dict[str, dict[str, Any]] = {
    "signed weights of 7 bits": {"signed": True, "reduce_range": True},
    "unsigned weights of 8 bits": {"signed": False, "reduce_range": False},
}


def write_int8(source: Path, file: Path, *, signed: bool, reduce_range: bool) -> None:
    """Quantises an ONNX file in one of `WAYS`."""
    import onnx
    from onnxruntime.quantization import (  # type: ignore[import-untyped]
        QuantType,
        quantize_dynamic,
    )

    with _quiet():
        quantize_dynamic(
            source,
            file,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        )
    model, of_float = onnx.load(file), onnx.load(source)
    del model.metadata_props[:]
    model.metadata_props.extend(of_float.metadata_props)
    model.producer_name, model.producer_version = of_float.producer_name, of_float.producer_version
    onnx.save(model, file)


def loss(checked: Checked, checkpoint: Checked) -> tuple[float, str]:
    """What int8 loses, in points of accuracy, and where: on validation, or for the worst group of the unseen set."""
    lost = {name: checkpoint.accuracy[name] - share for name, share in checked.accuracy.items()}
    if "unseen" in checked.worst:
        del lost["unseen"]
        lost["the worst group of unseen"] = checkpoint.worst["unseen"] - checked.worst["unseen"]
    where = max(lost, key=lambda name: lost[name])
    return 100 * lost[where], where


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice to preprocess, which gains nothing here; it would give the root logger a handler."""
    handler, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        root.removeHandler(handler)
