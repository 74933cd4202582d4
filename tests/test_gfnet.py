import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import nn

from gfnet_pl import GFNet
from gfnet_pl.model.arguments import VARIANTS
from gfnet_pl.model.gfnet import Block, DropPath


def tiny(**arguments) -> GFNet:
    return GFNet(**{"image_size": 32, "num_classes": 5, "dim": 16, "depth": 2} | arguments)


def grey(batch: int, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 1, *size), dtype=torch.uint8)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_has_as_many_parameters_as_counted_by_hand():
    embed = 8 * 8 * 1 * 256 + 256
    positions = 144 * 256
    norm = 2 * 256
    mlp = (256 * 1024 + 1024) + (1024 * 256 + 256)
    head = 256 * 28 + 28
    outside = embed + positions + norm + head  # 16640 + 36864 + 512 + 7196
    full = norm + 12 * 7 * 256 * 2 + norm + mlp  # 512 + 43008 + 512 + 525568
    half = norm + 7 * 7 * 256 * 2 + norm + mlp  # 512 + 25088 + 512 + 525568
    assert count(GFNet(filter_size="full")) == outside + 12 * full == 6_896_412
    assert count(GFNet(filter_size=(12, 7))) == outside + 12 * full
    assert count(GFNet(filter_size=(7, 7))) == outside + 12 * half == 6_681_372


@pytest.mark.parametrize(("variant", "millions"), list(zip(VARIANTS, (7, 16, 25, 43, 15, 32, 54), strict=True)))
def test_the_authors_nets_have_as_many_parameters_as_they_list(variant, millions):
    with torch.device("meta"):
        net = GFNet(image_size=224, in_channels=3, num_classes=1000, **VARIANTS[variant])
    assert round(count(net) / 1e6 - 0.02) == millions  # they list 7 for 7.5


def test_a_further_stage_makes_one_token_of_four():
    torch.manual_seed(0)
    net = tiny(image_size=(32, 48), dim=(16, 24), depth=(1, 2), layer_scale=0.5, drop_path=0.2)
    down = net.blocks[1].down
    tokens = torch.randn(2, 4 * 6, 16)
    merged = down(tokens)
    assert merged.shape == (2, 2 * 3, 24)
    four = tokens.view(2, 4, 6, 16)[:, 2:, 4:].permute(0, 3, 1, 2)  # those of the last token, (1, 2)
    torch.testing.assert_close(merged[:, -1], torch.einsum("bchw,dchw->bd", four, down.proj.weight) + down.proj.bias)
    assert [block.filter.map_size for block in net.blocks] == [(4, 6), (2, 3), (2, 3)]
    assert [round(block.drop_path.p, 2) for block in net.blocks] == [0, 0.1, 0.2]
    assert net.head.weight.shape == (5, 24)
    block = net.blocks[2].eval()
    x = torch.randn(2, 6, 24)
    torch.testing.assert_close(block(x) - x, 0.5 * block.mlp(block.norm2(block.filter(block.norm1(x)))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": (8, 16)}, "dim has 2 stages and depth 1"),
        ({"dim": (), "depth": ()}, "dim has 0 stages"),
        ({"dim": (8, 16), "depth": (1, 0)}, "depth is 0: it must be at least 1"),
        ({"dim": (8, 16), "depth": (999, 2)}, "depth is 1001: it must be at most 1,000"),
        (
            {"dim": (8, 16, 32, 64), "depth": (1,) * 4},
            "image_size 32 x 32 cannot be halved to 4 stages .* multiple of 64",
        ),
        ({"dim": (8, 16), "depth": (1, 1), "filter_size": (4, 3)}, "filter_size .4, 3. is that of one map"),
        ({"layer_scale": 0.0}, "layer_scale is 0.0: it must be above 0"),
    ],
)
def test_stages_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_defaults_are_the_issues():
    net = GFNet()
    assert net.map_size == (12, 12)
    assert len(net.blocks) == 12
    assert net.blocks[0].mlp.fc1.weight.shape == (1024, 256)
    assert net.head.weight.shape == (28, 256)
    assert [module.p for module in (net.pos_drop, net.blocks[3].mlp.drop)] == [0.2, 0.2]
    assert all(module.eps == 1e-6 for module in net.modules() if isinstance(module, nn.LayerNorm))


def test_weights_start_as_the_authors_start_them():
    torch.manual_seed(0)
    net = GFNet(depth=1)
    for weight in (net.pos_embed, net.blocks[0].mlp.fc1.weight, net.head.weight, net.blocks[0].filter.complex_weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert net.blocks[0].mlp.fc1.bias.abs().max() == 0
    assert net.head.bias.abs().max() == 0


def test_tokens_are_the_patches_row_by_row():
    net = tiny(image_size=(32, 16))
    images = torch.rand(2, 1, 32, 16)
    tokens = net.patch_embed(images)
    assert tokens.shape == (2, 4 * 2, 16)
    patch = images[:, :, 8:16, 8:16]  # row 1, column 1 of 4 x 2
    expected = patch.flatten(1) @ net.patch_embed.proj.weight.flatten(1).T + net.patch_embed.proj.bias
    torch.testing.assert_close(tokens[:, 3], expected)


def test_a_block_has_one_residual_around_filter_and_mlp():
    torch.manual_seed(0)
    block = Block(16, (4, 4), "full", mlp_ratio=4, dropout=0.0, drop_path=0.0)
    x = torch.randn(2, 16, 16)
    mixed = F.layer_norm(block.filter(block.norm1(x)), (16,), eps=1e-6)
    expected = x + block.mlp.fc2(F.gelu(block.mlp.fc1(mixed)))
    torch.testing.assert_close(block(x), expected)
    assert (block(x) - x).abs().max() > 1e-3


def test_dropout_follows_the_positions_and_both_mlp_layers():
    torch.manual_seed(0)
    net = tiny(dropout=0.5, drop_path=0.0, depth=1)
    zeros = {}
    for name, module in (("tokens", net.blocks[0]), ("hidden", net.blocks[0].mlp.fc2)):
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: zeros.update({name: (inputs[0] == 0).float().mean()})
        )
    net.blocks[0].mlp.register_forward_hook(lambda _, __, out: zeros.update(branch=(out == 0).float().mean()))
    net(grey(64))
    assert [round(value.item(), 1) for value in (zeros["tokens"], zeros["hidden"], zeros["branch"])] == [0.5, 0.5, 0.5]


def test_features_are_the_mean_token_and_logits_a_linear_layer_of_them():
    net = tiny().eval()
    seen = []
    net.norm.register_forward_hook(lambda _, __, tokens: seen.append(tokens))
    images = grey(3)
    features = net.features(images)
    assert features.shape == (3, 16)
    torch.testing.assert_close(features, seen[0].sum(dim=1) / 16)
    torch.testing.assert_close(net(images), features @ net.head.weight.T + net.head.bias)


def test_shifted_views_give_the_mean_over_the_image_and_its_four_neighbours_outside_of_training():
    net = tiny(shifted_views=True, dropout=0.0, drop_path=0.0, image_size=(32, 48)).eval()
    images = torch.rand(3, 1, 32, 48) * 255
    down, right = torch.arange(32), torch.arange(48)
    moved = [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)]  # a quarter of a patch of 8
    seen = [images[:, :, (down + dy).clamp(0, 31)][..., (right + dx).clamp(0, 47)] for dy, dx in moved]
    one_view = [net.features(view, one_view=True) for view in seen]
    torch.testing.assert_close(net.features(images), torch.stack(one_view).mean(0))
    assert (net.features(images) - one_view[0]).abs().max() > 1e-3
    net.train()
    torch.testing.assert_close(net.features(images), one_view[0])


@pytest.mark.parametrize("shifted", [False, True])
def test_mirrored_views_go_by_the_mirror_image_where_it_is_the_likelier(shifted):
    net = tiny(shifted_views=shifted, mirrored_views=True, dropout=0.0, drop_path=0.0, image_size=(32, 48)).eval()
    plain = tiny(shifted_views=shifted, dropout=0.0, drop_path=0.0, image_size=(32, 48)).eval()
    plain.load_state_dict(net.state_dict())
    assert net.views == 2 * plain.views == (10 if shifted else 2)
    images = torch.rand(7, 1, 32, 48) * 255
    own, mirrored = plain.features(images), plain.features(images.flip(3))
    way = (mirrored - own)[0].detach()
    with torch.no_grad():  # so that the first is likelier in a mirror, by far
        net.head.weight.copy_(20 * way / way.square().sum() * torch.ones(5, 1))
        net.head.bias.zero_()
    gain = net.head(mirrored).logsumexp(1) - net.head(own).logsumexp(1)
    weight = 1 / (1 + 9 * (-gain).exp())[:, None]
    torch.testing.assert_close(net.features(images), (1 - weight) * own + weight * mirrored)
    assert gain[0] > 19
    torch.testing.assert_close(net(images)[0], net.head(mirrored)[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net(images.flip(3))[0], net.head(mirrored)[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net.features(images, one_view=True), plain.features(images, one_view=True))
    net.train()
    plain.train()
    torch.testing.assert_close(net.features(images), plain.features(images))


def test_every_parameter_gets_a_gradient():
    net = tiny(filter_size=(3, 3))
    net(grey(8)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


@pytest.mark.parametrize("image_size", [(96, 64), (56, 72), (24, 40)])
@pytest.mark.parametrize("reading", ["full", "half"])
def test_non_square_images_and_odd_maps_work(image_size, reading):
    height, width = image_size[0] // 8, image_size[1] // 8
    filter_size = "full" if reading == "full" else (height // 2 + 1, width // 2 + 1)
    net = tiny(image_size=image_size, filter_size=filter_size)
    logits = net(grey(2, image_size))
    logits.sum().backward()
    assert net.map_size == (height, width)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("image_size", [100, (96, 60), (60, 96)])
def test_a_patch_that_does_not_divide_the_image_is_refused(image_size):
    with pytest.raises(ValueError, match=r"image_size \d+ x \d+ cannot be cut into patches of 8 x 8: use a patch_size"):
        GFNet(image_size=image_size)


@pytest.mark.parametrize("patch_size", [2, 4, 8, 16])
@pytest.mark.parametrize(("stem", "reach", "convolutions"), [("conv", 1, 1), ("double_conv", 2, 2)])
def test_a_stem_of_convolutions_makes_a_token_per_patch(stem, reach, convolutions, patch_size):
    net = tiny(patch_size=patch_size, stem=stem, image_size=(64, 128)).eval()
    of_three = [each for each in net.patch_embed.proj if isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3)]
    assert len(of_three) == convolutions * (patch_size.bit_length() - 1)
    images = grey(2, (64, 128))
    assert net.patch_embed(images.float()).shape == (2, 64 * 128 // patch_size**2, 16)
    assert net(images).shape == (2, 5)
    moved = net.patch_embed(images.float().roll((patch_size, 0), (2, 3))).unflatten(1, net.map_size)
    down, inside = slice(reach + 1, -reach), slice(2, -2)  # a token sees more than its patch, and moves with the image
    torch.testing.assert_close(
        moved[:, down, inside],
        net.patch_embed(images.float()).unflatten(1, net.map_size)[:, reach : -reach - 1, inside],
    )


@pytest.mark.parametrize(("stem", "patch_size"), [("conv", 1), ("conv", 6), ("double_conv", 12), ("hook", 4)])
def test_a_stem_that_cannot_be_is_refused(stem, patch_size):
    with pytest.raises(ValueError, match=r"^stem"):
        tiny(image_size=36, patch_size=patch_size, stem=stem)


def test_a_filter_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"use \[12, 5\] \(or 'full'\) or \[7, 5\]"):
        GFNet(image_size=(96, 64), filter_size=(7, 7))


@pytest.mark.parametrize("shape", [(2, 1, 64, 32), (2, 3, 32, 32), (1, 32, 32)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"built for \(B, 1, 32, 32\): resize them"):
        tiny()(torch.zeros(shape))


def test_arguments_are_plain_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(GFNet, "net")
    for extra, filter_shape in (("filter_size: full", (8, 7)), ("filter_size: [5, 7]", (5, 7))):
        config = parser.parse_string(f"net: {{image_size: [64, 96], dim: 8, depth: 1, mlp_ratio: 2, {extra}}}")
        net = GFNet(**config.net.as_dict())
        assert net.blocks[0].filter.complex_weight.shape[:2] == filter_shape
    assert GFNet(dim=8, depth=1, filter_size=[7, 7]).blocks[0].filter.complex_weight.shape[:2] == (7, 7)


def test_images_are_normalised_inside_whatever_their_dtype():
    torch.manual_seed(0)
    net = tiny(in_channels=2).eval()
    images = torch.randint(0, 256, (3, 2, 32, 32), dtype=torch.uint8)
    by_hand = (images.float() - torch.tensor([100.0, 50])[:, None, None]) / torch.tensor([20.0, 40])[:, None, None]
    expected = net(by_hand)  # a fresh net leaves its images as they are
    net.set_normalisation([100, 50], torch.tensor([20, 40]))
    torch.testing.assert_close(net(images), expected)
    torch.testing.assert_close(net(images.double()), expected)
    assert {"mean", "std"} <= net.state_dict().keys()
    assert torch.equal(net.state_dict()["std"], torch.tensor([20.0, 40.0]))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([1.0, 2.0], [1.0], "one number for each of 1 channels"),
        ([1.0], [0.0], "std above zero"),
        ([float("nan")], [1.0], "mean must be finite"),
        ([1.0], [float("inf")], "mean must be finite and std"),
    ],
)
def test_an_impossible_normalisation_is_refused(mean, std, message):
    net = tiny()
    with pytest.raises(ValueError, match=message):
        net.set_normalisation(mean, std)
    assert (net.mean, net.std) == (torch.zeros(1), torch.ones(1))


def train(net: GFNet, images: torch.Tensor, labels: torch.Tensor, steps: int) -> float:
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("filter_size", ["full", (3, 3)])
def test_overfits_one_batch(filter_size):
    torch.manual_seed(0)
    images, labels = grey(32), torch.arange(32) % 5
    net = tiny(dropout=0.0, drop_path=0.0, filter_size=filter_size)
    net.set_normalisation([127.5], [74])
    assert train(net, images, labels, steps=140) < 0.05
    assert torch.equal(net(images).argmax(1), labels)


def test_equal_seeds_give_bitwise_equal_weights():
    images, labels = grey(8), torch.arange(8) % 5
    trained = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        net = tiny(drop_path=0.5)
        train(net, images, labels, steps=3)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_evaluation_is_deterministic_and_training_is_not():
    net = tiny()
    images = grey(4)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


def test_drop_path_rises_linearly_to_its_argument():
    rates = [block.drop_path.p for block in GFNet(dim=8, drop_path=0.22).blocks]
    assert rates == pytest.approx([0.02 * index for index in range(12)])
    assert tiny(depth=1, drop_path=0.1).blocks[0].drop_path.p == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_path_drops_whole_samples_and_is_unbiased(dtype):
    torch.manual_seed(0)
    samples, p = 40_000, 0.1
    x = (1 + torch.rand(samples, 3, 2)).to(dtype)
    y = DropPath(p)(x)
    assert y.dtype == dtype
    dropped = (y == 0).flatten(1)
    assert torch.equal(dropped.any(dim=1), dropped.all(dim=1))
    assert dropped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / samples) ** 0.5)
    scale = y[~dropped[:, 0]].double().mean() / x[~dropped[:, 0]].double().mean()
    assert scale.item() == pytest.approx(1 / (1 - p), rel=2e-4)
    assert DropPath(p).eval()(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_drop_path_that_is_no_probability_is_named(p):
    with pytest.raises(ValueError, match=r"drop_path is .*: it must be at least 0 and below 1"):
        tiny(drop_path=p)


def test_drop_path_leaves_the_residual():
    torch.manual_seed(0)
    block = Block(16, (4, 4), "full", mlp_ratio=4, dropout=0.0, drop_path=0.5)
    x = torch.randn(64, 16, 16)
    unchanged = (block(x) == x).flatten(1).all(dim=1)
    assert 16 < unchanged.sum() < 48


def test_bf16_stays_close_to_float32_and_keeps_the_stream_in_bf16():
    torch.manual_seed(0)
    net = tiny(dim=64, depth=6).eval()
    net.set_normalisation([127.5], [74])
    images = grey(16)
    expected = net(images)
    dtypes = set()
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: dtypes.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images)
    assert dtypes == {torch.bfloat16}
    assert (logits.float() - expected).norm() / expected.norm() < 0.02


def test_gradients_in_bf16_are_those_of_float64_but_for_rounding():
    """Parameter by parameter: sums over tokens and images must not be taken in bf16."""
    torch.manual_seed(0)
    net = tiny(dim=64, depth=2).eval()
    net.set_normalisation([127.5], [74])
    images, labels = grey(64), torch.arange(64) % 5
    gradients = []
    for dtype, bf16 in ((torch.float64, False), (torch.float32, True)):
        net = net.to(dtype)
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(images)
        torch.nn.functional.cross_entropy(logits.to(dtype), labels).backward()
        gradients.append({name: parameter.grad.double() for name, parameter in net.named_parameters()})
    expected, found = gradients
    for name, value in expected.items():
        assert (found[name] - value).norm() / value.norm() < 0.04, name


@pytest.mark.parametrize("stem", ["patch", "double_conv"])
def test_what_is_frozen_gets_no_gradient_and_drops_nothing(stem):
    net = tiny(depth=3, dropout=0.5, drop_path=0.5, stem=stem)
    net.freeze(2)
    net.train()
    net(grey(4)).sum().backward()
    without = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert without == {"pos_embed"} | {
        name for name, _ in net.named_parameters() if name.startswith(("patch_embed.", "blocks.0.", "blocks.1."))
    }
    dropping = {name for name, module in net.named_modules() if module.training}
    assert dropping >= {"blocks.2.mlp.drop", "blocks.2.drop_path", "norm", "head"}
    assert not any(name.startswith(("patch_embed", "pos_drop", "blocks.0", "blocks.1")) for name in dropping)
    with pytest.raises(ValueError, match=r"^freeze is 4: it must be at least 0 and at most 3"):
        net.freeze(4)
