"""What GFNet is compared with: the same net in plain PyTorch, and a vision transformer with about as many operations.

`TextbookGFNet` is written as in the paper and the authors' code: rfft2, nn.Dropout, nn.Linear. Its parameters have the
same names as those of `gfnet_pl.GFNet`, so that the weights of one load into the other. With equal weights both compute
the same. The convolutions of the stem are plain PyTorch in both.
"""

import torch
from torch import Tensor, nn

from gfnet_pl.model.stem import Stem, conv_stem


class TextbookFilter(nn.Module):
    def __init__(self, dim: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size
        self.complex_weight = nn.Parameter(torch.randn(map_size[0], map_size[1] // 2 + 1, dim, 2) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.float().reshape(len(x), *self.map_size, -1)
        spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.complex_weight)
        return torch.fft.irfft2(spectrum, s=self.map_size, dim=(1, 2), norm="ortho").reshape(x.shape)


class TextbookMlp(nn.Module):
    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class TextbookDropPath(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(len(x), 1, 1, dtype=x.dtype, device=x.device) >= self.p
        return x / (1 - self.p) * keep


class TextbookBlock(nn.Module):
    def __init__(self, dim: int, map_size: tuple[int, int], dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.filter = TextbookFilter(dim, map_size)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = TextbookMlp(dim, 4 * dim, dropout)
        self.drop_path = TextbookDropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(self.filter(self.norm1(x)))))


class Embedding(nn.Module):
    """Square patches and their position embeddings: (B, 1, side, side) grey levels -> (B, N, C)."""

    def __init__(self, dim: int, side: int, patch: int = 8, stem: Stem = "patch") -> None:
        super().__init__()
        in_one = nn.Conv2d(1, dim, kernel_size=patch, stride=patch)
        self.patch_embed = nn.ModuleDict({"proj": conv_stem(1, dim, patch) if stem == "conv" else in_one})
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, dim))
        self.register_buffer("mean", torch.full((1,), 127.5))
        self.register_buffer("std", torch.full((1,), 74.0))

    def embed(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean[:, None, None]) / self.std[:, None, None]
        return self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed


class TextbookGFNet(Embedding):
    def __init__(
        self,
        *,
        dim: int = 256,
        depth: int = 12,
        dropout: float = 0.2,
        drop_path: float = 0.1,
        image_size: int = 96,
        num_classes: int = 28,
        stem: Stem = "patch",
    ) -> None:
        super().__init__(dim, image_size, stem=stem)
        side = image_size // 8
        self.pos_drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TextbookBlock(dim, (side, side), dropout, drop_path * index / max(depth - 1, 1)) for index in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pos_drop(self.embed(images))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class ViT(Embedding):
    """A vision transformer of torch's own layers, pre-norm; it classifies the mean of its tokens."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        dropout: float,
        image_size: int = 96,
        patch_size: int = 8,
        num_classes: int = 28,
        stem: Stem = "patch",
    ) -> None:
        super().__init__(dim, image_size, patch_size, stem)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(images)).mean(1))
