import logging
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_pl import GFNet, load_authors_weights
from gfnet_pl.cli import main
from gfnet_pl.errors import UserError
from gfnet_pl.model.pretrained import SMALL, small_file, start_from

DIM, DEPTH, CLASSES = 12, 3, 5
WEIGHTS = "model.pretrained: the weights have"


def random(*shape: int) -> Tensor:
    return torch.randn(shape) / math.sqrt(max(shape[-1], 1))


def block_weights(block: str, dim: int, grid: tuple[int, int]) -> dict[str, Tensor]:
    return {
        f"{block}.norm1.weight": random(dim),
        f"{block}.norm1.bias": random(dim),
        f"{block}.filter.complex_weight": random(grid[0], grid[1] // 2 + 1, dim, 2),
        f"{block}.norm2.weight": random(dim),
        f"{block}.norm2.bias": random(dim),
        f"{block}.mlp.fc1.weight": random(4 * dim, dim),
        f"{block}.mlp.fc1.bias": random(4 * dim),
        f"{block}.mlp.fc2.weight": random(dim, 4 * dim),
        f"{block}.mlp.fc2.bias": random(dim),
    }


def authors_weights(*, grid=(4, 4), patch=8, colours=3, dim=DIM, depth=DEPTH, classes=CLASSES) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the published files."""
    torch.manual_seed(0)
    weights = {
        "pos_embed": random(1, grid[0] * grid[1], dim),
        "patch_embed.proj.weight": random(dim, colours, patch, patch),
        "patch_embed.proj.bias": random(dim),
        "norm.weight": random(dim),
        "norm.bias": random(dim),
        "head.weight": random(classes, dim),
        "head.bias": random(classes),
    }
    for index in range(depth):
        weights |= block_weights(f"blocks.{index}", dim, grid)
    return weights


def hierarchical_weights(*, grid=(8, 8), patch=4, dims=(8, 12, 16), depths=(2, 1, 2)) -> dict[str, Tensor]:
    """The same of a published net in stages, whose names are others."""
    torch.manual_seed(0)
    weights = {
        "pos_embed": random(1, grid[0] * grid[1], dims[0]),
        "patch_embed.0.proj.weight": random(dims[0], 3, patch, patch),
        "patch_embed.0.proj.bias": random(dims[0]),
        "norm.weight": random(dims[-1]),
        "norm.bias": random(dims[-1]),
        "head.weight": random(CLASSES, dims[-1]),
        "head.bias": random(CLASSES),
    }
    for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if stage:
            weights[f"patch_embed.{stage}.proj.weight"] = random(dim, dims[stage - 1], 2, 2)
            weights[f"patch_embed.{stage}.proj.bias"] = random(dim)
        for index in range(depth):
            block = f"blocks.{stage}.{index}"
            weights |= block_weights(block, dim, (grid[0] // 2**stage, grid[1] // 2**stage))
            weights[f"{block}.gamma"] = random(dim)
    return weights


def norm(weights: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)


def branch(weights: dict[str, Tensor], x: Tensor, block: str, grid: tuple[int, int]) -> Tensor:
    y = norm(weights, x, f"{block}.norm1").reshape(len(x), *grid, -1)
    spectrum = torch.fft.rfft2(y, dim=(1, 2), norm="ortho")
    spectrum = spectrum * torch.view_as_complex(weights[f"{block}.filter.complex_weight"])
    y = torch.fft.irfft2(spectrum, s=grid, dim=(1, 2), norm="ortho").reshape(x.shape)
    y = F.linear(
        norm(weights, y, f"{block}.norm2"), weights[f"{block}.mlp.fc1.weight"], weights[f"{block}.mlp.fc1.bias"]
    )
    return F.linear(F.gelu(y), weights[f"{block}.mlp.fc2.weight"], weights[f"{block}.mlp.fc2.bias"])


def hierarchical_forward(weights: dict[str, Tensor], images: Tensor, depths=(2, 1, 2)) -> Tensor:
    x = images  # (B, C, H, W) between the stages
    for stage, depth in enumerate(depths):
        patches = weights[f"patch_embed.{stage}.proj.weight"]
        x = F.conv2d(x, patches, weights[f"patch_embed.{stage}.proj.bias"], stride=patches.shape[-1])
        grid = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens if stage else tokens + weights["pos_embed"]
        for index in range(depth):
            block = f"blocks.{stage}.{index}"
            tokens = tokens + weights[f"{block}.gamma"] * branch(weights, tokens, block, grid)
        x = tokens.transpose(1, 2).unflatten(2, grid)
    return F.linear(norm(weights, tokens, "norm").mean(dim=1), weights["head.weight"], weights["head.bias"])


def authors_forward(weights: dict[str, Tensor], images: Tensor, depth: int = DEPTH) -> Tensor:
    """The published network's evaluation, from its weights and plain functions."""
    patches = weights["patch_embed.proj.weight"]
    x = F.conv2d(images, patches, weights["patch_embed.proj.bias"], stride=patches.shape[-1])
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2) + weights["pos_embed"]
    for index in range(depth):
        x = x + branch(weights, x, f"blocks.{index}", grid)
    return F.linear(norm(weights, x, "norm").mean(dim=1), weights["head.weight"], weights["head.bias"])


def our_model(**arguments) -> GFNet:
    return GFNet(**{"image_size": 32, "num_classes": CLASSES, "dim": DIM, "depth": DEPTH} | arguments).eval()


@pytest.mark.parametrize("grid", [(4, 4), (5, 7), (4, 3)])
def test_logits_are_the_authors(grid):
    weights = authors_weights(grid=grid)
    image_size = (8 * grid[0], 8 * grid[1])
    model = our_model(image_size=image_size, in_channels=3)
    load_authors_weights(model, weights)
    images = torch.randn(4, 3, *image_size)
    torch.testing.assert_close(model(images), authors_forward(weights, images), rtol=0, atol=1e-5)


def in_stages(**arguments) -> GFNet:
    shape = {"patch_size": 4, "dim": (8, 12, 16), "depth": (2, 1, 2), "layer_scale": 1e-3, "num_classes": CLASSES}
    return GFNet(**{"image_size": 32} | shape | arguments).eval()


@pytest.mark.parametrize("grid", [(8, 8), (12, 4)])
def test_logits_are_those_of_the_hierarchical_nets(grid):
    weights = hierarchical_weights(grid=grid)
    model = in_stages(image_size=(4 * grid[0], 4 * grid[1]), in_channels=3)
    load_authors_weights(model, weights)
    images = torch.randn(4, 3, *model.image_size)
    torch.testing.assert_close(model(images), hierarchical_forward(weights, images), rtol=0, atol=1e-5)


def test_each_stage_of_a_hierarchical_net_is_brought_to_another_grid(caplog):
    weights = hierarchical_weights(grid=(16, 16))
    for name in [name for name in weights if name.endswith("complex_weight")]:
        height, columns, dim, _ = weights[name].shape
        weights[name] = wave_weights((height, 2 * (columns - 1)))[:, :, None].repeat(1, 1, dim, 1)
    model = in_stages(image_size=(32, 48))
    with caplog.at_level(logging.INFO):
        load_authors_weights(model, weights)
    assert "5 blocks of dim [8, 12, 16]; colours summed to grey; positions and filters resized from 16" in caplog.text
    for block, grid in zip(model.blocks, [(8, 12), (8, 12), (4, 6), (2, 3), (2, 3)], strict=True):
        weight = block.filter.complex_weight
        expected = wave_weights(grid)[:, :, None].expand_as(weight)
        columns = slice(0, -1) if grid[1] % 2 else slice(None)
        torch.testing.assert_close(weight[:, columns], expected[:, columns], rtol=0, atol=0.1)


def test_weights_of_another_net_of_the_authors_are_called_by_its_name():
    weights = hierarchical_weights(grid=(56, 56), dims=(64, 128, 256, 512), depths=(3, 3, 10, 3))
    with pytest.raises(UserError, match=r"dim \[64, 128, 256, 512\], the net has 12: give --model.variant gfnet-h-ti"):
        load_authors_weights(our_model(in_channels=3), weights)


def test_rgb_folds_to_grey():
    weights = authors_weights()
    model = our_model()
    load_authors_weights(model, weights)
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(model(images), authors_forward(weights, images.expand(-1, 3, -1, -1)), rtol=0, atol=1e-5)


def test_weights_of_equal_shape_are_copied_bit_by_bit():
    weights = authors_weights(grid=(11, 13))
    model = our_model(image_size=(88, 104), in_channels=3)
    load_authors_weights(model, weights)
    state = model.state_dict()
    assert state.keys() == weights.keys() | {"mean", "std"}
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_normalisation_stays_the_models():
    model = our_model()
    model.set_normalisation([100.0], [50.0])
    load_authors_weights(model, authors_weights())
    assert (model.mean.item(), model.std.item()) == (100, 50)


def test_positions_are_resized_bicubically():
    weights = authors_weights(grid=(5, 7))
    model = our_model(image_size=(64, 48))
    load_authors_weights(model, weights)
    grid = weights["pos_embed"].reshape(5, 7, DIM)
    for channel in (0, DIM - 1):
        expected = F.interpolate(grid[None, None, :, :, channel], size=(8, 6), mode="bicubic", align_corners=False)
        torch.testing.assert_close(model.pos_embed[0, :, channel], expected.flatten())


def wave_weights(grid: tuple[int, int]) -> Tensor:
    """A smooth response of frequency: cosines of cycles a token; sines for the imaginary part. (h, w // 2 + 1, 2)."""
    row, column = torch.meshgrid(torch.fft.fftfreq(grid[0]), torch.fft.rfftfreq(grid[1]), indexing="ij")
    phase = 2 * math.pi * (row + 0.5 * column)
    return torch.stack((phase.cos(), phase.sin()), dim=-1)


@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (12, 12)), ((14, 14), (24, 16)), ((14, 14), (9, 13)), ((9, 12), (14, 14))]
)
def test_filters_are_resized_by_signed_frequency(old, new):
    weights = authors_weights(grid=old)
    for index in range(DEPTH):
        weights[f"blocks.{index}.filter.complex_weight"] = wave_weights(old)[:, :, None].repeat(1, 1, DIM, 1)
    model = our_model(image_size=(8 * new[0], 8 * new[1]))
    load_authors_weights(model, weights)
    for block in model.blocks:
        weight = block.filter.complex_weight
        assert weight.shape == (new[0], new[1] // 2 + 1, DIM, 2)
        expected = wave_weights(new)[:, :, None].expand_as(weight)
        columns = slice(0, -1) if old[1] % 2 else slice(None)  # an odd map has no frequency of half a cycle a token
        torch.testing.assert_close(weight[:, columns], expected[:, columns], rtol=0, atol=0.05)
        torch.testing.assert_close(weight[0, 0], expected[0, 0], rtol=0, atol=1e-6)  # frequency zero stays


def test_half_row_filters_take_the_mean_of_mirrored_rows():
    weights = authors_weights(grid=(4, 4))
    model = our_model(filter_size=(3, 3))
    load_authors_weights(model, weights)
    full, half = weights["blocks.1.filter.complex_weight"], model.blocks[1].filter.complex_weight
    torch.testing.assert_close(half, torch.stack((full[0], (full[1] + full[3]) / 2, full[2])))

    odd = authors_weights(grid=(5, 4))
    model = our_model(image_size=(40, 32), filter_size=(3, 3))
    load_authors_weights(model, odd)
    full, half = odd["blocks.1.filter.complex_weight"], model.blocks[1].filter.complex_weight
    torch.testing.assert_close(half, torch.stack((full[0], (full[1] + full[4]) / 2, (full[2] + full[3]) / 2)))


def test_another_number_of_classes_leaves_the_head_and_says_so(caplog):
    model = our_model(num_classes=7)
    head = model.head.weight.clone()
    with caplog.at_level(logging.WARNING, logger="gfnet_pl.model.pretrained"):
        load_authors_weights(model, authors_weights())
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.blocks[2].mlp.fc2.bias, authors_weights()["blocks.2.mlp.fc2.bias"])
    message = "published weights: 3 blocks of dim 12; colours summed to grey; head is new: 5 classes there, 7 here"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", message)]


def test_what_was_taken_is_said_in_one_line(caplog):
    with caplog.at_level(logging.INFO, logger="gfnet_pl.model.pretrained"):
        load_authors_weights(our_model(in_channels=3, image_size=48), authors_weights())
    message = "published weights: 3 blocks of dim 12; positions and filters resized from 4 x 4 to 6 x 6 tokens"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", message)]


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in authors_weights().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "patch_embed.proj.weight: not in the weights, so they are no GFNet's; give the 'model' entry"),
        ({"model": authors_weights()}, "patch_embed.proj.weight: not in the weights"),
        (authors_weights(dim=24), f"{WEIGHTS} dim 24, the net has 12: build it with dim=24, depth=3"),
        (authors_weights(depth=5), f"{WEIGHTS} depth 5, the net has 3: build it with dim=12, depth=5"),
        (authors_weights(depth=1), f"{WEIGHTS} depth 1, the net has 3: build it with dim=12, depth=1"),
        (
            hierarchical_weights(),
            f"{WEIGHTS} dim [8, 12, 16], the net has 12: build it with dim=[8, 12, 16], depth=[2, 1, 2]",
        ),
        (
            without("blocks.1.norm2.bias"),
            "blocks.1.norm2.bias: not in the weights; give the 'model' entry of the file of gfnet-ti",
        ),
        (
            authors_weights() | {"blocks.0.gamma": torch.ones(DIM)},
            "blocks.0.gamma: not in such a GFNet; give the 'model' entry of the file of gfnet-ti",
        ),
        (
            authors_weights(patch=16),
            "patch_embed.proj.weight: the weights have shape (12, 3, 16, 16), the model needs (12, 3, 8, 8); build",
        ),
        (
            authors_weights() | {"blocks.2.mlp.fc1.bias": torch.ones(24)},
            "blocks.2.mlp.fc1.bias: the weights have shape (24,), the model needs (48,); build",
        ),
        (
            authors_weights() | {"blocks.1.filter.complex_weight": torch.ones(4, 2, DIM, 2)},
            "blocks.1.filter.complex_weight: the weights have shape (4, 2, 12, 2)",
        ),
        (
            authors_weights() | {"pos_embed": torch.ones(1, 15, DIM)},
            "pos_embed: the weights have shape (1, 15, 12), the model needs (1, 12, 12)",
        ),
        (
            authors_weights() | {"blocks.0.filter.complex_weight": torch.tensor(1.0)},
            "blocks.0.filter.complex_weight: the weights have shape ()",
        ),
        (
            authors_weights() | {"blocks.0.filter.complex_weight": torch.ones(0, 3, DIM, 2)},
            "blocks.0.filter.complex_weight: the weights have shape (0, 3, 12, 2)",
        ),
        (authors_weights() | {"blocks.x.norm1.bias": torch.ones(DIM)}, "blocks.x.norm1.bias: not in such a GFNet"),
        (authors_weights() | {"pos_embed": torch.ones(DIM)}, "pos_embed: the weights have shape (12,)"),
        (
            authors_weights() | {"head.bias": torch.tensor(1.0)},
            "head.weight: the weights have shape (5, 12), the model needs (1, 12)",
        ),
    ],
)
def test_other_weights_are_refused_in_one_line_and_change_nothing(weights, message):
    model = our_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_authors_weights(model, weights)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_command_starts_from_published_weights_and_says_what_it_took(tiny, tmp_path, capsys, caplog):
    torch.save({"model": authors_weights(patch=4, dim=16, depth=2)}, tmp_path / "gfnet.pth")  # for RGB and 5 classes
    command = [*tiny, "--trainer.max_epochs=1", "--model.lr=1e-30", f"--model.pretrained={tmp_path / 'gfnet.pth'}"]
    assert main(command) == 0
    (line,) = [line for line in caplog.messages if "published" in line]
    assert "2 blocks of dim 16" in line
    assert "colours summed to grey" in line
    assert "head is new: 5 classes there, 3 here" in line
    weights = torch.load("runs/base/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    grey = authors_weights(patch=4, dim=16, depth=2)["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(weights["net.patch_embed.proj.weight"], grey)
    (tmp_path / "gfnet.pth").unlink()  # a checkpoint has the weights itself
    assert main(["test", "--trainer.enable_progress_bar=false"]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"no weights", "cannot be read as weights"),
        ({"model": {"pos_embed": torch.zeros(1)}}, "they are no GFNet's"),
        ([1], "holds no weights by name"),
        ({"model": authors_weights(dim=16, depth=2)}, "the model needs"),
    ],
)
def test_a_file_of_other_weights_is_one_line(tiny, tmp_path, capsys, content, message):
    if isinstance(content, bytes):
        (tmp_path / "gfnet.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "gfnet.pth")
    assert main([*tiny, f"--model.pretrained={tmp_path / 'gfnet.pth'}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gfnet: error: ")
    assert message in line


def test_where_the_weights_would_be_ignored_the_command_says_so(tiny, capsys):
    assert main([*tiny, "--model.pretrained=x.pth", "--model.classes=[ant, bee, Cat]"]) == 2
    assert "model.pretrained starts a net for the data's classes: drop model.classes" in capsys.readouterr().err
    assert main([*tiny, "--trainer.max_epochs=1"]) == 0
    assert main([*tiny, "--stage=other", "--ckpt_path=last.ckpt", "--model.pretrained=x.pth"]) == 2
    assert "model.pretrained is x.pth in this command but None in runs/base" in capsys.readouterr().err


def small_net(**arguments) -> GFNet:
    fits = {"image_size": 32, "patch_size": 4, "num_classes": CLASSES, "dim": 96, "depth": 4, "stem": "conv"}
    return GFNet(**fits | arguments).eval()


@pytest.mark.parametrize("patch", [4, 8])
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (12, 12), (5, 7)])
def test_the_weights_that_come_with_the_package_start_a_net_of_any_grid(patch, rows, columns):
    net = small_net(image_size=(patch * rows, patch * columns), patch_size=patch)
    head = net.head.weight.clone()
    start_from(net, SMALL)
    assert torch.equal(net.head.weight, head)
    kept = torch.load(small_file(patch), weights_only=True)
    assert sum(value.numel() for value in kept.values()) > 370_000
    for name, value in kept.items():
        own = net.state_dict()[name]
        if own.shape == value.shape:
            assert torch.equal(own, value.to(own)), name
        else:
            assert "filter" in name or name == "pos_embed"
    assert net(torch.randn(2, 1, patch * rows, patch * columns)).isfinite().all()


def test_in_colour_they_see_the_mean_of_the_colours():
    grey, colour = small_net(), small_net(in_channels=3)
    for net in (grey, colour):
        start_from(net, SMALL)
    images = torch.randn(2, 3, 32, 32)
    seen = grey.features(images.mean(1, keepdim=True))
    torch.testing.assert_close(colour.features(images), seen, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("other", ["--model.dim=32", "--model.depth=2", "--model.stem=patch", "--model.patch_size=16"])
def test_another_net_cannot_start_from_them(tiny, capsys, other):
    fits = ["--model.image_size=32", "--model.patch_size=4", "--model.dim=96", "--model.depth=4", "--model.stem=conv"]
    assert main([*tiny, *fits, other, "--model.pretrained=small"]) == 2
    assert "model.pretrained small needs --model.stem conv --model.dim 96 --model.depth 4" in capsys.readouterr().err
