"""Which precision is faster on this machine's CPU: measured, because CPUs differ.

Some have units for bf16, some only instructions, many emulate it: on three machines, the products of one net ran 2.6
times as fast in bf16 as in float32, half as fast, and a tenth as fast. One thread is timed by its own processor time.
So other programs on the machine do not change the answer, as they would by wall time and with several threads.
"""

import time
from functools import cache
from typing import Any, NamedTuple

import torch

from gfnet_pl.model.arguments import per_stage

FLOAT32, BF16 = "32-true", "bf16-mixed"  # Lightning's names

_TOKENS = 512  # of the products: enough to be as fast as a batch's, few enough for a CPU that emulates bf16
_SECONDS = 0.05  # for each precision, at least: some clocks count processor time in steps of 0.016 s
_CLEARLY = 1.1  # so that noise does not decide between rates that are close


class Rates(NamedTuple):
    """Operations per second of a net's products on one core; a multiplication and an addition are two.

    Attributes:
        float32: In float32.
        bf16: In bf16.
    """

    float32: float
    bf16: float

    @property
    def faster(self) -> str:
        """Lightning's name of the faster precision; float32 where bf16 is less than a tenth faster."""
        return BF16 if self.bf16 > _CLEARLY * self.float32 else FLOAT32


def choose_precision(config: Any) -> str:  # noqa: ANN401  (a namespace of jsonargparse)
    """Sets `trainer.precision` of a command to the faster one, where nothing has set it and the net runs on a CPU.

    On a GPU it stays unset: that is float32, with TF32 where `TF32Precision` switches it on.

    Returns:
        A line about it with both rates; "" if nothing was chosen.
    """
    trainer, model = config["trainer"], config["model"]
    on_cpu = trainer["accelerator"] == "cpu" or (
        trainer["accelerator"] == "auto" and not torch.accelerator.is_available()
    )
    if trainer["precision"] is not None or not on_cpu:
        return ""
    dim = max(per_stage(model["dim"]), default=1)  # it has not been checked yet
    rates = product_rates(dim, int(dim * model["mlp_ratio"]))
    trainer["precision"] = rates.faster
    return (
        f"precision: {rates.faster}; a core here does {rates.float32 / 1e9:.3g} GFLOP/s in float32, "
        f"{rates.bf16 / 1e9:.3g} in bf16"
    )


@cache
def product_rates(dim: int, hidden: int) -> Rates:
    """Times the three products of a linear layer, of the output and of both gradients, on the CPU.

    Args:
        dim: Channels of a token.
        hidden: Channels of a token within an MLP.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Rates(*(_rate(dtype, dim, hidden) for dtype in (torch.float32, torch.bfloat16)))
    finally:
        torch.set_num_threads(threads)


def _rate(dtype: torch.dtype, dim: int, hidden: int) -> float:
    tokens = torch.ones(_TOKENS, dim, dtype=dtype)
    gradient = torch.ones(_TOKENS, hidden, dtype=dtype)
    weight = torch.ones(hidden, dim, dtype=dtype)

    def products() -> None:
        _ = tokens @ weight.T, gradient @ weight, gradient.T @ tokens

    products()  # sets up the kernels
    calls, spent, start = 0, 0.0, time.thread_time()
    while spent < _SECONDS:
        products()
        calls, spent = calls + 1, time.thread_time() - start
    return 3 * 2 * _TOKENS * dim * hidden * calls / spent
