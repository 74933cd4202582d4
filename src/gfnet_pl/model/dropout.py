"""Dropout that is fast on a CPU too.

PyTorch's own draws one Bernoulli number an element, serially, on a CPU: a third of a training step. This one takes
NumPy's fastest generator, compares integers as wide as the numbers to drop from with a threshold, and makes factors of
them in place.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}  # by bytes


class InPlaceDropout(nn.Module):
    """Zero each number with probability p while training, in place, and scale up the others so that the mean stays.

    On a CPU the scale 1 / (1 - p) is rounded to a number of the tensor's type, and p with it, so that the mean stays
    exactly: in bfloat16 0.2 is 0.2 and 0.1 becomes 0.0986. PyTorch's global generator seeds the random numbers, so that
    its seed reproduces them.

    Args:
        p: Probability of zeroing a number, 0 <= p < 1.

    Raises:
        ValueError: If p is out of its range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is a probability of at least 0 and below 1, got {p}")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Drop from a tensor of any shape, which is changed and given back."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # a compiler fuses PyTorch's own
            return F.dropout(x, self.p, inplace=True)
        return x.mul_(_factors(x, self.p))


def _factors(x: Tensor, p: float) -> Tensor:
    """Zeros with probability p, else 1 / (1 - p): a tensor of x's shape and dtype."""
    integer, levels = INTEGERS[x.element_size()], 2 ** (8 * x.element_size())
    scale = torch.tensor(1 / (1 - p), dtype=x.dtype)
    dropped = min(round(levels * (1 - 1 / scale.item())), levels - 1)  # of `levels` equally likely integers
    seed = int(torch.empty((), dtype=torch.int64).random_())
    draws = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-x.nbytes // 8)).view(integer))
    kept = draws[: x.numel()].ge_(dropped - levels // 2)  # ones and zeros
    return kept.mul_(int(scale.view(kept.dtype))).view(x.dtype).view(x.shape)  # the bits of the scale, and of zero
