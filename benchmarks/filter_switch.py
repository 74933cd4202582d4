"""From which map size the FFT is faster than the matrix products: forward and backward of one GlobalFilter, both ways.

    OMP_NUM_THREADS=1 python benchmarks/filter_switch.py

Set `MATRIX_MAX_TOKENS` in `gfnet_pl.model.global_filter` to the largest map on which the matrices are faster in both
precisions. On a CPU the time is processor time, so that another program on the same cores disturbs it little.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gfnet_pl.model import global_filter


def timed(module: global_filter.GlobalFilter, x: Tensor, bf16: bool) -> float:
    """Seconds of one forward and backward pass."""
    clock: Callable[[], float] = time.process_time
    if x.device.type == "cuda":
        torch.cuda.synchronize()
        clock = time.perf_counter
    start = clock()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        y = module(x)
    y.backward(torch.ones_like(y))
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[7, 12, 16, 24, 32, 40, 48, 56, 64, 96])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=4608, help="tokens per batch, at least one map (default: 4608)")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    print("| map | float32 matrices ms | float32 FFT ms | ratio | bf16 matrices ms | bf16 FFT ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for side in args.sides:
        modules = []
        for limit in (side * side, 0):
            global_filter.MATRIX_MAX_TOKENS = limit
            modules.append(global_filter.GlobalFilter(args.dim, (side, side)).to(args.device))
        cells = [f"{side} x {side}"]
        for bf16 in (False, True):
            x = torch.randn(max(1, args.tokens // side**2), side * side, args.dim, device=args.device)
            x = x.to(torch.bfloat16 if bf16 else torch.float32).requires_grad_()
            pairs = [[timed(module, x, bf16) for module in modules] for _ in range(args.repeats + 2)][2:]
            matrix, fft = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
            cells += [f"{matrix:.1f}", f"{fft:.1f}", f"{fft / matrix:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
