"""The learning rate as a function of the step."""

import math


def warmup_cosine(step: int, *, warmup_steps: float, total_steps: int) -> float:
    """The learning rate at an optimizer step, as a share of the peak learning rate.

    It rises linearly from 0 to 1 over `warmup_steps`. Then it falls as half a cosine to 0 at `total_steps` (Loshchilov
    and Hutter 2017, without restarts). After that it stays 0.

    Args:
        step: The optimizer step, starting from 0.
        warmup_steps: Length of the warm-up in steps.
        total_steps: Steps of the whole training.

    Returns:
        The share, from 0 to 1.
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
