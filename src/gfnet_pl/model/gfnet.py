"""GFNet: a vision transformer whose attention is a learned filter in the frequency domain.

Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021. Parameter names are those of the authors'
code, so that their weights can be loaded (`pretrained.py`). Normalisation is part of the network, so training, an
exported network and a browser all normalise images in the same way.

Axes: B images, H x W tokens, N = H * W, C channels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_pl.errors import UserError, check_range, one_line
from gfnet_pl.model.arguments import check_arguments, per_stage
from gfnet_pl.model.dropout import InPlaceDropout
from gfnet_pl.model.global_filter import GlobalFilter
from gfnet_pl.model.layer_norm import LayerNorm
from gfnet_pl.model.stem import PatchEmbed, Stem
from gfnet_pl.model.weights import read_weights

VIEWS = 5  # of an image, with `shifted_views`
RARE = math.log(9)  # with `mirrored_views`: a tenth of people sign with the left hand


def shifted(images: Tensor, patch_size: int) -> Tensor:
    """Each image as it is and moved to each side: (B, …) -> (VIEWS * B, …), view by view.

    What the patches of an image show depends on where they happen to lie; the mean over views does less so. Pixels that
    come in at a border repeat it.
    """
    step = max(1, patch_size // 4)
    height, width = images.shape[2:]
    padded = F.pad(images, 4 * (step,), mode="replicate")
    corners = ((step, step), (0, step), (2 * step, step), (step, 0), (step, 2 * step))
    return torch.cat([padded[:, :, top : top + height, left : left + width] for top, left in corners])


class Mlp(nn.Module):
    """Two linear layers that act on the channels of each token: C -> mlp_ratio * C -> C."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.act = nn.GELU()
        self.drop = InPlaceDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.fc1(x)))
        x = self.drop(self.fc2(x))
        return x


class DropPath(nn.Module):
    """During training, drop the whole branch of an image with probability p, and scale up the branches that stay."""

    def __init__(self, p: float) -> None:
        super().__init__()
        check_range("drop_path", p, least=0, below=1, error=ValueError)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * keep / (1 - self.p)  # two steps: 1 / (1 - p) itself would be rounded in bf16


class Downsample(nn.Module):
    """Make one token of 2 x 2: (B, N, C) -> (B, N / 4, out_dim)."""

    def __init__(self, dim: int, out_dim: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        self.proj = nn.Conv2d(dim, out_dim, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.transpose(1, 2).reshape(*x.shape[::2], *self.map_size)  # (B, C, H, W)
        tokens: Tensor = self.proj(grid)
        return tokens.flatten(2).transpose(1, 2).contiguous()


class Block(nn.Module):
    """Mix the tokens with a global filter, then the channels with an MLP. One residual connection goes round both.

    The first block of a further stage begins with `down`, which makes its tokens of those of the stage before.
    """

    def __init__(
        self,
        dim: int,
        map_size: tuple[int, int],
        filter_size: Literal["full"] | Sequence[int],
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
        layer_scale: float | None = None,
        down: Downsample | None = None,
    ) -> None:
        super().__init__()
        self.down = down or nn.Identity()
        self.norm1 = LayerNorm(dim, eps=1e-6)
        self.filter = GlobalFilter(dim, map_size, filter_size)
        self.norm2 = LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), dropout)
        self.drop_path = DropPath(drop_path)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        branch: Tensor = self.mlp(self.norm2(self.filter(self.norm1(x))))
        if self.gamma is not None:
            branch = self.gamma.to(branch.dtype) * branch
        x = x + self.drop_path(branch)
        return x


class GFNet(nn.Module):
    """Global Filter Network, an image classifier.

    Args:
        image_size: Height and width of the images in pixels, or one number for both.
        patch_size: Side of a square patch in pixels. It must divide height and width.
        in_channels: Number of channels of the images.
        num_classes: Number of classes.
        dim: Number of channels C of a token. Several numbers: of each stage, the authors' hierarchical form. A further
            stage has a quarter of the tokens of the one before.
        depth: Number of blocks, or of each stage's.
        mlp_ratio: Number of hidden channels of a block's MLP, as a multiple of C.
        filter_size: Rows and columns of each global filter's weight, see `GlobalFilter`; with several stages "full".
        dropout: Probability of dropping a number after the position embedding and in the MLPs.
        drop_path: Probability of dropping an image's whole branch in the last block. From block to block it rises
            linearly, starting with 0 in the first block.
        layer_scale: What a learned factor for each channel of a block's branch begins with, as in the authors'
            hierarchical nets; None: no such factor.
        stem: What makes tokens of an image: "patch", one step as the authors have it, or convolutions, see
            `stem.conv_stem`: "conv" or "double_conv". Their patch_size must be a power of two.
        shifted_views: Whether a net that is not in training sees each image five times: as it is, and moved by a
            quarter of a patch to each side. Its features are the mean of all five; docs/robust.md has the gain.
        mirrored_views: Whether it also sees each image in a mirror, and goes by that where it is the likelier, as with
            a left hand. Leave it False where a mirror image is another class (b and d); docs/people.md has the gain.

    Attributes:
        image_size: Height and width of the images in pixels.
        map_size: Height and width (H, W) of the map of tokens, in the first stage.
        mean: (in_channels,) subtracted from the images, in grey levels 0..255, one number per channel.
        std: (in_channels,) by which the images are divided after that, in grey levels.

    Raises:
        ValueError: A number is out of its range, the patch size does not divide the image size, or the filter does not
            fit the map of tokens. The message begins with the argument's name.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 96,
        patch_size: int = 8,
        in_channels: int = 1,
        num_classes: int = 28,
        dim: int | tuple[int, ...] = 256,
        depth: int | tuple[int, ...] = 12,
        mlp_ratio: float = 4,
        filter_size: Literal["full"] | tuple[int, int] = "full",
        dropout: float = 0.2,
        drop_path: float = 0.1,
        layer_scale: float | None = None,
        stem: Stem = "patch",
        shifted_views: bool = False,
        mirrored_views: bool = False,
    ) -> None:
        super().__init__()
        check_arguments(
            image_size,
            patch_size,
            in_channels,
            num_classes,
            dim,
            depth,
            mlp_ratio,
            filter_size,
            dropout,
            drop_path,
            layer_scale,
            stem,
            shifted_views,
            mirrored_views,
        )
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = height, width
        self.map_size = height // patch_size, width // patch_size
        self.shifted_views, self.mirrored_views = shifted_views, mirrored_views

        dims, depths = per_stage(dim), per_stage(depth)
        self.patch_embed = PatchEmbed(in_channels, dims[0], patch_size, stem)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.map_size[0] * self.map_size[1], dims[0]))
        self.pos_drop = InPlaceDropout(dropout)
        self.blocks = nn.ModuleList()
        for stage, (channels, count) in enumerate(zip(dims, depths, strict=True)):
            height, width = self.map_size[0] >> stage, self.map_size[1] >> stage
            for index in range(count):
                starts = stage > 0 and index == 0
                down = Downsample(dims[stage - 1], channels, (2 * height, 2 * width)) if starts else None
                rate = drop_path * len(self.blocks) / max(sum(depths) - 1, 1)
                self.blocks.append(
                    Block(channels, (height, width), filter_size, mlp_ratio, dropout, rate, layer_scale, down)
                )
        self.norm = LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], num_classes)
        self._frozen: list[nn.Module] = []

        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("std", torch.ones(in_channels))

        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @classmethod
    def from_export(cls, path: str | Path) -> Self:
        """Builds a net from what `gfnet export` wrote, bit for bit that of the checkpoint, in evaluation mode.

        Args:
            path: The folder of the export, or its model.safetensors.

        Raises:
            UserError: The file is missing or damaged, is not of a GFNet, or safetensors is not installed.
        """
        stored = read_weights(Path(path))
        try:
            net = cls(**stored.arguments)
            net.load_state_dict(stored.state)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} holds no net of this version ({one_line(error)}); export it again") from None
        return net.eval()

    @property
    def views(self) -> int:
        """How many views of an image it has outside of training."""
        return (VIEWS if self.shifted_views else 1) * (2 if self.mirrored_views else 1)

    def freeze(self, blocks: int) -> None:
        """Keep patch embedding, position embedding and the first blocks as they are: they have no gradient.

        They also stay in evaluation mode: without dropout, which includes that after the position embedding, and
        without drop path. So an image has the same tokens behind them in training as in use.

        Args:
            blocks: Number of blocks, 0 to depth. 0 freezes nothing, not even the embeddings.

        Raises:
            ValueError: There are not so many blocks.
        """
        check_range("freeze", blocks, least=0, most=len(self.blocks), error=ValueError)
        if blocks:
            self._frozen = [self.patch_embed, self.pos_drop, *self.blocks[:blocks]]
            for module in self._frozen:
                module.requires_grad_(False)
            self.pos_embed.requires_grad_(False)
            self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training or evaluation mode. What is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def set_normalisation(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        """From now on, normalise images as (image - mean) / std.

        Args:
            mean: (in_channels,) mean of each channel over the training images, in grey levels 0..255.
            std: (in_channels,) standard deviation of each channel, in grey levels.

        Raises:
            ValueError: If there is not exactly one number per channel, a number is not finite, or a standard deviation
                is not above zero.
        """
        new_mean, new_std = (torch.as_tensor(values, dtype=torch.float64).reshape(-1) for values in (mean, std))
        if new_mean.shape != self.mean.shape or new_std.shape != self.std.shape:
            raise ValueError(
                f"mean and std need one number for each of {len(self.mean)} channels, got {mean} and {std}"
            )
        if not (new_mean.isfinite().all() and new_std.isfinite().all() and (new_std > 0).all()):
            raise ValueError(f"mean must be finite and std above zero, got {mean} and {std}")
        self.mean.copy_(new_mean)
        self.std.copy_(new_std)

    def normalise(self, images: Tensor) -> Tensor:
        """Bring images to the scale that the patch embedding expects: mean 0 and standard deviation 1.

        Args:
            images: (B, in_channels, height, width), uint8 or float, in grey levels 0..255.

        Returns:
            Images of the same shape, in the dtype of the parameters.
        """
        return (images.to(self.mean.dtype) - self.mean[:, None, None]) / self.std[:, None, None]

    def features(self, images: Tensor, *, one_view: bool = False) -> Tensor:
        """Compute the features of each image: the mean of its normalised tokens, from which the last layer classifies.

        Args:
            images: (B, in_channels, height, width), uint8 or float, in grey levels 0..255.
            one_view: Whether to leave out `shifted_views` and `mirrored_views`, which take `views` times the time.

        Returns:
            Features (B, C).

        Raises:
            ValueError: If the size or the number of channels of the images is not that of the network.
        """
        if images.shape[1:] != (len(self.mean), *self.image_size):
            raise ValueError(
                f"images of shape {tuple(images.shape)} for a network built for (B, {len(self.mean)}, "
                f"{self.image_size[0]}, {self.image_size[1]}): resize them, or build it with their image_size"
            )
        x = self.normalise(images)
        if one_view or self.training:
            return self._of_one_view(x)
        if self.mirrored_views:
            x = torch.cat((x, x.flip(3)))
        if not self.shifted_views:
            features = self._of_one_view(x)
        else:
            features = self._of_one_view(shifted(x, self.image_size[0] // self.map_size[0]))
            features = features.view(VIEWS, -1, features.shape[1]).mean(dim=0)
        return self._of_the_likelier(features) if self.mirrored_views else features

    def _of_one_view(self, x: Tensor) -> Tensor:
        """(B, in_channels, height, width) normalised images -> (B, C)."""
        x = self.patch_embed(x)  # (B, N, C)
        # With this conversion, under autocast to bf16 the sums of the residual connections stay in bf16.
        x = self.pos_drop(x + self.pos_embed.to(x.dtype))
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = self.norm(x)
        return tokens.mean(dim=1)

    def _of_the_likelier(self, features: Tensor) -> Tensor:
        """(2 * B, C) features of images and then of their mirror images -> (B, C), weighted by how likely each is.

        The log of the sum of an image's exponential logits is its log likelihood but for a constant (Grathwohl et al.,
        "Your Classifier Is Secretly an Energy Based Model", ICLR 2020). Probabilities, which lack it, tell less.
        """
        own, mirrored = features.view(2, -1, features.shape[1])
        as_it_is, in_mirror = self.head(features).float().logsumexp(dim=1).view(2, -1, 1)
        of_the_likelier: Tensor = own.lerp(mirrored, torch.sigmoid(in_mirror - as_it_is - RARE).to(own.dtype))
        return of_the_likelier

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: (B, in_channels, height, width), uint8 or float, in grey levels 0..255.

        Returns:
            Logits (B, num_classes).
        """
        logits: Tensor = self.head(self.features(images))
        return logits
