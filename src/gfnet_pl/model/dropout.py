"""Dropout that is fast on a CPU too.

On a CPU, PyTorch's own dropout draws one Bernoulli number per element, serially. That takes a third of a training step.
This one takes random integers from NumPy's fastest generator. The integers have as many bytes as the tensor's numbers.
Comparing them with a threshold says which numbers are dropped, and the factors are written over the integers in place.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_pl.errors import check_range

INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}  # by the bytes per number


class InPlaceDropout(nn.Module):
    """Set each number to zero with probability p, and scale up the others so that the mean stays the same.

    It does so in place, and only during training.

    On a CPU, the scale 1 / (1 - p) is rounded to the tensor's type, and p is changed to match the rounded scale, so
    that the mean stays exactly the same. In bfloat16, for example, p = 0.2 stays 0.2, and p = 0.1 becomes 0.0986.
    PyTorch's global generator seeds the random numbers, so the same seed of PyTorch gives the same numbers.

    Args:
        p: Probability that a number is set to zero, 0 <= p < 1.

    Raises:
        ValueError: If p is out of its range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        check_range("dropout", p, least=0, below=1, error=ValueError)
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape. The tensor itself is changed and returned."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # compilers fuse PyTorch's
            return F.dropout(x, self.p, inplace=True)
        return x.mul_(_factors(x, self.p))


def _factors(x: Tensor, p: float) -> Tensor:
    """The factors of x: 0 with probability p, otherwise 1 / (1 - p). They have the shape and dtype of x."""
    integer, levels = INTEGERS[x.element_size()], 2 ** (8 * x.element_size())
    scale = torch.tensor(1 / (1 - p), dtype=x.dtype)
    dropped = min(round(levels * (1 - 1 / scale.item())), levels - 1)  # out of `levels` equally likely ones
    seed = int(torch.empty((), dtype=torch.int64).random_())
    draws = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-x.nbytes // 8)).view(integer))
    kept = draws[: x.numel()].ge_(dropped - levels // 2)  # ones and zeros
    # The bits of the scale, read as an integer, times 1 or 0: read as x's dtype, that is the scale or zero.
    return kept.mul_(int(scale.view(kept.dtype))).view(x.dtype).view(x.shape)
