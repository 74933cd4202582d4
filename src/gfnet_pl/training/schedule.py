"""What the optimizer is given: parameter groups, and the learning rate as a function of the step."""

import math

from torch import nn


def parameter_groups(
    net: nn.Module, *, weight_decay: float, decay_matrices_only: bool
) -> list[dict[str, float | list[nn.Parameter]]]:
    """AdamW's groups: all parameters decayed, or biases, norms and positions left out.

    Args:
        net: Its trainable parameters are grouped.
        weight_decay: For the decayed ones.
        decay_matrices_only: Decay only the weights of convolutions, linear layers and filters.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        is_matrix = parameter.ndim > 1 and not name.endswith("pos_embed")
        (decayed if is_matrix or not decay_matrices_only else free).append(parameter)
    groups: list[dict[str, float | list[nn.Parameter]]] = [{"params": decayed, "weight_decay": weight_decay}]
    return [*groups, {"params": free, "weight_decay": 0.0}] if free else groups


def warmup_cosine(step: int, *, warmup_steps: float, total_steps: int) -> float:
    """Share of the peak learning rate at an optimizer step.

    Linear from 0 to 1 over `warmup_steps`, then half a cosine down to 0 at `total_steps` (Loshchilov and Hutter 2017,
    without restarts); 0 beyond it.
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
