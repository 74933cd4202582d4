"""Our dropout against PyTorch's own on a CPU: forward and backward of one hidden layer's activations, in turn.

OMP_NUM_THREADS=1 python benchmarks/dropout.py
"""

import statistics
import time

import torch
from torch import nn

from gfnet_pl.model.dropout import Dropout

SHAPE, ROUNDS, WARM_UP = (64, 144, 1024), 13, 3


def main() -> None:
    layers = {"ours": Dropout(0.2), "torch": nn.Dropout(0.2)}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(SHAPE).to(dtype).requires_grad_()
        gradient = torch.randn(SHAPE).to(dtype)
        seconds: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(ROUNDS):
            for name, layer in layers.items():
                start = time.perf_counter()
                layer(x).backward(gradient)
                seconds[name].append(time.perf_counter() - start)
        ours, torchs = (1000 * statistics.median(seconds[name][WARM_UP:]) for name in layers)
        print(f"{dtype}: ours {ours:.0f} ms, torch {torchs:.0f} ms, ratio {torchs / ours:.1f}")


if __name__ == "__main__":
    main()
