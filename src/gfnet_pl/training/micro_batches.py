"""Computes the gradient of a batch part by part, so that on a CPU activations use memory that the process already has.

glibc requests every block of 32 MiB or more from the system again, and the system fills it with zeros page by page.
With a whole batch of 512 this takes as long as the arithmetic (docs/performance.md). The activations of a part are
freed before the next part begins. The gradient is the same as that of the whole batch; only the batch
normalisation of a stem of convolutions (`stem.conv_stem`) has the statistics of its part.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_pl.data.batches import Batch
from gfnet_pl.model.gfnet import GFNet

LARGEST = 2**23  # numbers in an activation of a part, at most: 32 MiB in float32, 16 MiB in bf16


def in_parts(batch: Batch, numbers: int, device: torch.device) -> list[Batch]:
    """Cuts a batch into parts of about the same size. Only on a CPU: on a GPU a whole batch is fastest.

    Args:
        batch: At least one image.
        numbers: How many numbers the largest activation of one image has.
        device: The device of the net.

    Returns:
        The parts, in the order of the batch.
    """
    images = len(batch.labels)
    parts = math.ceil(images / max(1, LARGEST // numbers)) if device.type == "cpu" else 1
    size = math.ceil(images / parts)
    cuts = [slice(start, start + size) for start in range(0, images, size)]
    seeds = batch.seeds
    return [Batch(batch.images[cut], batch.labels[cut], None if seeds is None else seeds[cut]) for cut in cuts]


def largest_activation(net: GFNet) -> int:
    """How many numbers the largest activation of one image has: the hidden activation of an MLP."""
    blocks: Any = net.blocks  # a ModuleList does not know the type of what it holds
    return max(int(math.prod(block.filter.map_size) * max(block.mlp.fc1.weight.shape)) for block in blocks)


def mean_loss(loss_of: Callable[[Batch], Tensor], parts: list[Batch], parameters: Iterable[nn.Parameter]) -> Tensor:
    """The mean loss of a whole batch, computed part by part.

    Args:
        loss_of: Computes the mean loss over the images of a part.
        parts: The parts of the batch, at least one.
        parameters: All parameters that need a gradient.

    Returns:
        A scalar to call backward on.
    """
    if len(parts) == 1:
        return loss_of(parts[0])
    parameters = list(parameters)
    total = sum(len(part.labels) for part in parts)
    losses: list[Tensor] = []
    gradients: list[Tensor] = []
    for part in parts:
        loss = loss_of(part) * (len(part.labels) / total)
        with torch.autocast(loss.device.type, enabled=False):  # autocast is for the forward pass only
            found = torch.autograd.grad(loss, parameters)
        losses.append(loss.detach())
        gradients = [mean.add_(new) for mean, new in zip(gradients, found, strict=True)] if gradients else list(found)
    known: Tensor = _Known.apply(torch.stack(losses).sum(), gradients, *parameters)  # type: ignore[no-untyped-call]
    return known


class _Known(torch.autograd.Function):
    """A loss whose gradients are already known; backward returns them."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: nn.Parameter) -> Tensor:  # noqa: ANN401
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return None, None, *(factor * gradient for gradient in ctx.gradients)
