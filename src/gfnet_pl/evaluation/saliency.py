"""Which pixels matter: for a decision (integrated gradients), and for a token (effective receptive field).

Both functions work on a copy of the net, so its mode, gradients and hooks do not change. They also work where the
caller has switched gradients off. Arrays are float64, for any dtype and device of the net.
"""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gfnet_pl.model.gfnet import GFNet

Floats = npt.NDArray[np.float64]

_BATCH = 32  # images at a time, with the activations for a gradient


@torch.inference_mode(False)
def integrated_gradients(net: GFNet, images: Tensor, targets: Tensor, steps: int = 32) -> Floats:
    """What each pixel adds to the logit of a class, compared with an image of the mean grey level.

    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017. The gradient is averaged along the
    straight line from the mean grey level (0 after normalisation) to the image, and multiplied by the difference of
    the two. The values of an image's map add up to logit(image) - logit(mean grey), except for the error of the
    average, which is computed with the midpoint rule.

    Args:
        net: Evaluated without dropout, on its device.
        images: (B, in_channels, height, width), uint8 or float, in grey levels 0..255. All are processed at once.
        targets: (B,) class whose logit is explained.
        steps: Number of points on the line. The time is proportional to it. The error of the sum falls with its square,
            and faster at first. For a trained net of depth 4 and 40 pictures, the error with 32 points was 0.1 % in the
            median and at most 7 %; with 64 points it was at most 0.4 %.

    Returns:
        (B, height, width) in units of the logit, summed over the channels. A value below 0 means that the pixel lowers
        the logit of the class.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    grey = net.mean[:, None, None]
    difference = images.to(net.mean) - grey
    targets = targets.to(net.mean.device, copy=True)[:, None]
    total = torch.zeros_like(difference)
    for step in range(steps):
        point = (grey + (step + 0.5) / steps * difference).requires_grad_()
        (gradient,) = torch.autograd.grad(net(point).gather(1, targets).sum(), point)
        total += gradient
    return (difference * total / steps).sum(1).cpu().double().numpy()


@torch.inference_mode(False)
def effective_receptive_field(net: GFNet, images: Tensor) -> Floats:
    """How much each pixel influences the token in the middle, after the patch embedding and after each block.

    Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016. The
    measure is the absolute gradient of the token with respect to the pixels, averaged over the images. A token has C
    channels, which the paper adds up. Here, each image adds them with random signs (the same ones in every call),
    because in a plain sum, channels that react in opposite ways would cancel out. Filters continue across the edges of
    the map on the opposite side, and so does the receptive field.

    Args:
        net: Evaluated without dropout, on its device.
        images: (N, in_channels, height, width), uint8 or float, in grey levels 0..255. A few dozen are enough.

    Returns:
        (depth + 1, height, width). Each map sums to 1. The token is the one at (H // 2, W // 2) of its stage's map. Map
        0 is that of the patch embedding, so it covers the patch of the token.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    blocks: Any = net.blocks  # a ModuleList does not know the type of what it holds
    sizes = [net.map_size, *(block.filter.map_size for block in blocks)]
    outputs: list[Tensor] = []  # of the current batch, (B, N, C) each

    def keep(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        outputs.append(output)

    for module in (net.patch_embed, *blocks):
        module.register_forward_hook(keep)

    generator = torch.Generator().manual_seed(0)
    field = torch.zeros(len(blocks) + 1, *net.image_size, dtype=torch.float64)
    for start in range(0, len(images), _BATCH):
        pixels = images[start : start + _BATCH].to(net.mean, copy=True).requires_grad_()
        outputs.clear()
        net.features(pixels, one_view=True)
        widest = max(tokens.shape[2] for tokens in outputs)
        signs = torch.randint(2, (len(pixels), widest), generator=generator) * 2 - 1  # (B, C)
        for index, (tokens, (height, width)) in enumerate(zip(outputs, sizes, strict=True)):
            token = tokens[:, height // 2 * width + width // 2]  # (B, C)
            signed = signs[:, : token.shape[1]].to(token)
            (gradient,) = torch.autograd.grad(token, pixels, signed, retain_graph=True)
            field[index] += gradient.abs().sum((0, 1)).cpu().double()
    return (field / field.sum((1, 2), keepdim=True)).numpy()


def receptive_radius(field: Floats) -> Floats:
    """The radius of the circle around the token's patch that contains half of its receptive field.

    This radius is easier to explain than a root mean square, and a faint background far away does not dominate it. It
    is 2.9 pixels for a patch of 8 x 8 pixels, and 38 pixels if all pixels of a picture of 96 x 96 count equally.

    Args:
        field: (depth + 1, height, width), from `effective_receptive_field`. The circle's centre is that of map 0.

    Returns:
        (depth + 1,), in pixels.
    """
    rows, columns = np.indices(field.shape[1:])
    distance = np.hypot(rows - (rows * field[0]).sum(), columns - (columns * field[0]).sum()).ravel()
    order = distance.argsort()
    share = field.reshape(len(field), -1)[:, order].cumsum(axis=1)
    radius: Floats = distance[order][(share >= 0.5 * share[:, -1:]).argmax(axis=1)]
    return radius
