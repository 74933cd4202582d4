"""Sharpness-aware minimization: weights in whose whole neighbourhood the loss is low, not only at one point.

Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021. A step takes two
gradients, so it takes twice the time.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class SharpnessAwareAdamW(torch.optim.AdamW):
    """AdamW whose gradient is that of the weights moved by `rho` along their own gradient, where the loss is higher.

    Its state is AdamW's.

    Args:
        parameters: What to train.
        rho: How far the weights, all together as one vector, are moved for the second gradient; above 0.
        **options: Of AdamW.

    Attributes:
        aside: Whether the weights are moved now, and the closure is called for the second gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, rho: float, **options: Any) -> None:  # noqa: ANN401
        super().__init__(parameters, **options)
        self.rho = rho
        self.aside = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]  # it cannot do without one
        """Takes a step.

        Args:
            closure: Computes the loss of the batch, and its gradient. It is called twice.

        Returns:
            The loss at the weights before the step.
        """
        with torch.enable_grad():
            loss = closure()
        moved = [each for group in self.param_groups for each in group["params"] if each.grad is not None]
        here = [each.clone() for each in moved]
        gradients = [each.grad for each in moved]
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_add_(moved, torch._foreach_mul(gradients, self.rho / (length + 1e-12)))
        self.aside = True
        try:
            with torch.enable_grad():
                closure()
        finally:
            self.aside = False
            torch._foreach_copy_(moved, here)
        super().step()
        return loss
