"""A batch in parts behind the same gradient, so that on a CPU the activations stay in memory that is at hand.

glibc takes every block of 32 MiB and more from the system afresh, which zeroes it page by page: with a whole batch of
512 that takes as long as the arithmetic (docs/performance.md). Activations of a part are freed before the next part.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_pl.data.batches import Batch
from gfnet_pl.model.gfnet import GFNet

LARGEST = 2**23  # numbers in an activation of a part: 32 MiB in float32, 16 in bf16


def in_parts(batch: Batch, numbers: int, device: torch.device) -> list[Batch]:
    """Cuts a batch into parts of about the same size; on a GPU it stays whole, which is best there.

    Args:
        batch: Of at least one image.
        numbers: In the largest activation of one image.
        device: Where the net is.
    """
    images = len(batch.labels)
    parts = math.ceil(images / max(1, LARGEST // numbers)) if device.type == "cpu" else 1
    size = math.ceil(images / parts)
    cuts = [slice(start, start + size) for start in range(0, images, size)]
    seeds = batch.seeds
    return [Batch(batch.images[cut], batch.labels[cut], None if seeds is None else seeds[cut]) for cut in cuts]


def largest_activation(net: GFNet) -> int:
    """Numbers in the largest activation of one image: the hidden one of an MLP."""
    height, width = net.map_size
    return height * width * max(module.out_features for module in net.blocks.modules() if isinstance(module, nn.Linear))


def mean_loss(loss_of: Callable[[Batch], Tensor], parts: list[Batch], parameters: Sequence[nn.Parameter]) -> Tensor:
    """The loss of a whole batch, a scalar to call backward on, from the mean losses of its parts.

    Args:
        loss_of: Gives the mean loss over the images of a part.
        parts: At least one.
        parameters: All that the loss is to be differentiated by.
    """
    if len(parts) == 1:
        return loss_of(parts[0])
    total = sum(len(part.labels) for part in parts)
    losses: list[Tensor] = []
    gradients: list[Tensor] = []
    for part in parts:
        loss = loss_of(part) * (len(part.labels) / total)
        with torch.autocast(loss.device.type, enabled=False):  # it is for the forward pass alone
            found = torch.autograd.grad(loss, parameters)
        losses.append(loss.detach())
        gradients = [mean.add_(new) for mean, new in zip(gradients, found, strict=True)] if gradients else list(found)
    known: Tensor = _Known.apply(torch.stack(losses).sum(), gradients, *parameters)  # type: ignore[no-untyped-call]
    return known


class _Known(torch.autograd.Function):
    """A loss whose gradients are known: backward hands them on."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: nn.Parameter) -> Tensor:  # noqa: ANN401
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return None, None, *(factor * gradient for gradient in ctx.gradients)
