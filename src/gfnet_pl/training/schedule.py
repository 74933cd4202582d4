"""The learning rate as a function of the step."""

import math


def warmup_cosine(step: int, *, warmup_steps: float, total_steps: int) -> float:
    """Share of the peak learning rate at an optimizer step.

    Linear from 0 to 1 over `warmup_steps`, then half a cosine down to 0 at `total_steps` (Loshchilov and Hutter 2017,
    without restarts); 0 beyond it.
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
