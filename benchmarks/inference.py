"""How fast a net classifies on a CPU: PyTorch, onnxruntime and, where it is installed, OpenVINO.

    python benchmarks/inference.py [--rounds 30]

One picture on one core, and batches of 64 on all cores, of the base net and of the quick net, with random weights. The
ways are measured in turn, so that what else the machine does falls on all of them alike: the ratios are more reliable
than the times. One picture is measured in processor time, which other jobs do not lengthen, batches by the clock. The
median over the rounds and, for a machine that has other work, the least.
"""

import argparse
import logging
import os
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.pop("OMP_NUM_THREADS", None)  # OpenVINO and onnxruntime are told the threads, and torch as well

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from gfnet_pl import GFNet
from gfnet_pl.evaluation.calibration import Calibration
from gfnet_pl.export.graph import OPSET, OUTPUTS, Exported, write_onnx
from gfnet_pl.export.int8 import WAYS, write_int8
from gfnet_pl.export.runtime import OnnxRuntime
from gfnet_pl.processes import cores
from gfnet_pl.run.export import FORMAT, Description
from gfnet_pl.run.record import machine

NETS = {"base": {}, "quick": {"dim": 96, "depth": 4, "stem": "conv", "dropout": 0.0}}
STATIC, ACTIVATION = "static, signed weights of 8 bits", QuantType.QUInt8
WARM_UP = 2


def by_torch(net, images, threads, bf16):
    torch.set_num_threads(threads)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return net(images)


def by_openvino(file, threads):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(file, "CPU", settings)


def ways(net, folder, images, threads):
    """Each way to run it, by name."""
    named = {"PyTorch float32": False, "PyTorch bf16": True}
    found = {name: partial(by_torch, net, torch.from_numpy(images), threads, bf16) for name, bf16 in named.items()}
    files = {"float32": folder / "model.onnx"} | {f"int8, {name}": folder / f"{name}.onnx" for name in (*WAYS, STATIC)}
    for name, file in files.items():
        found[f"onnxruntime {name}"] = partial(OnnxRuntime(file, threads), images)
        if find_spec("openvino"):
            found[f"OpenVINO {name}"] = partial(by_openvino(file, threads), {"images": images})
    return found


def medians(runs, rounds, clock):
    """Milliseconds by name: the median and the least."""
    times = {name: [] for name in runs}
    for _ in range(WARM_UP + rounds):
        for name, run in runs.items():
            began = clock()
            run()
            times[name].append(1000 * (clock() - began))
    return {name: (float(np.median(each[WARM_UP:])), min(each)) for name, each in times.items()}


def write(net, folder):
    texts = dict.fromkeys(("version", "commit", "run", "checkpoint_sha256", "weights_sha256", "input", "source"), "")
    facts = {"classes": [], "canvas": {}, "preparation": [], "synthetic": False, "calibrated": "", "temperature": 1.0}
    facts |= {"thresholds": [], "new_groups": 0, "familiar_within": None, "accuracy": {}}
    described = Description(format=FORMAT, opset=OPSET, outputs=OUTPUTS, **texts, **facts)
    write_onnx(folder / "model.onnx", Exported(net, Calibration()), described)
    for name, way in WAYS.items():
        write_int8(folder / "model.onnx", folder / f"{name}.onnx", **way)
    write_static(folder / "model.onnx", folder / f"{STATIC}.onnx", net)


class Noise(CalibrationDataReader):
    """Any pictures will do for the speed."""

    def __init__(self, net):
        size = (8, 1, *net.image_size)
        self.batches = iter([{"images": np.random.default_rng(0).integers(0, 256, size, np.uint8)}])

    def get_next(self):
        return next(self.batches, None)


def write_static(source, file, net):
    """The products with constant second factor, as in `write_int8`, with fixed ranges for the activations."""
    graph = onnx.load(source).graph
    fixed = {value.name for value in graph.initializer}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in fixed]
    logging.disable(logging.WARNING)
    quantize_static(source, file, Noise(net), nodes_to_quantize=products, per_channel=True, activation_type=ACTIVATION)
    logging.disable(logging.NOTSET)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print(f"{machine()}; torch {torch.__version__}. Median (least); times as fast as PyTorch in float32 likewise.\n")
    print("| net | pictures, cores | way | milliseconds | times as fast |\n| --- | --- | --- | --- | --- |")
    for name, arguments in NETS.items():
        torch.manual_seed(0)
        net = GFNet(**arguments).eval()
        net.set_normalisation([100.0], [50.0])
        with tempfile.TemporaryDirectory() as folder:
            write(net, Path(folder))
            for count, threads in ((1, 1), (64, cores())):
                images = np.random.default_rng(0).integers(0, 256, (count, 1, *net.image_size), np.uint8)
                clock, times = (time.process_time, rounds) if threads == 1 else (time.perf_counter, max(3, rounds // 8))
                found = medians(ways(net, Path(folder), images, threads), times, clock)
                first = found["PyTorch float32"]
                for way, (median, least) in found.items():
                    times = f"{first[0] / median:.1f} ({first[1] / least:.1f})"
                    print(f"| {name} | {count}, {threads} | {way} | {median:.1f} ({least:.1f}) | {times} |", flush=True)


if __name__ == "__main__":
    main()
