"""What makes tokens of an image: one step per patch, or convolutions.

Axes: B images, H x W tokens, N = H * W, C channels.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

Stem = Literal["patch", "conv", "double_conv"]


class PatchEmbed(nn.Module):
    """Make a token of each patch: (B, in_channels, height, width) -> (B, N, C), row by row."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, stem: Stem) -> None:
        super().__init__()
        self.proj: nn.Module
        if stem == "patch":
            self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        else:
            self.proj = conv_stem(in_channels, dim, patch_size, double=stem == "double_conv")

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images)  # (B, C, H, W)
        # One copy here. Without it, the first LayerNorm of every block would make its own copy.
        return tokens.flatten(2).transpose(1, 2).contiguous()


def conv_stem(in_channels: int, dim: int, patch_size: int, *, double: bool = False) -> nn.Sequential:
    """3 x 3 convolutions that each halve height and width, down to one token per patch.

    With `double` there is another before each, of stride 1.

    Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021. They look beyond the patch, and learn
    from few pictures and few people what edges and strokes are; docs/robust.md has the gain, docs/fashion-mnist.md that
    of twice as many. The batch normalisation is essential: in trials without it, or with one over the channels of each
    image, the gain was gone.
    """
    halvings = patch_size.bit_length() - 1
    widths = [in_channels, *(max(1, dim >> step) for step in reversed(range(halvings)))]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        half = max(1, after // 2)
        steps = [(before, half, 1), (half, after, 2)] if double else [(before, after, 2)]
        for given, made, stride in steps:
            layers += [nn.Conv2d(given, made, 3, stride=stride, padding=1), nn.BatchNorm2d(made), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))
