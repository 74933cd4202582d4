import copy

import numpy as np
import pytest
import torch

from gfnet_pl import GFNet
from gfnet_pl.evaluation import saliency
from gfnet_pl.evaluation.saliency import effective_receptive_field, integrated_gradients, receptive_radius
from gfnet_pl.model import global_filter


def make(**arguments) -> GFNet:
    """A random net in float64, with filters and layers large enough to bend."""
    torch.manual_seed(0)
    defaults = {"image_size": 16, "patch_size": 4, "num_classes": 5, "dim": 8, "depth": 2}
    net = GFNet(**defaults | arguments)
    for block in net.blocks:
        torch.nn.init.normal_(block.filter.complex_weight, std=0.5)
        torch.nn.init.normal_(block.mlp.fc1.weight, std=0.3)
        torch.nn.init.normal_(block.mlp.fc2.weight, std=0.3)
    torch.nn.init.normal_(net.head.weight)
    torch.nn.init.normal_(net.pos_embed)  # a grey image's tokens differ: else LayerNorm would jump on the way from it
    net.set_normalisation([100] * len(net.mean), [50] * len(net.mean))
    return net.double()


def grey(net, number):
    return torch.randint(0, 256, (number, len(net.mean), *net.image_size), dtype=torch.uint8)


def gained(net, images, targets):
    """logit(image) - logit(mean grey), (B,)."""
    with torch.no_grad():
        net = copy.deepcopy(net).eval()
        logits = net(images) - net(torch.full((1, *images.shape[1:]), 100.0))
    return logits[torch.arange(len(images)), targets].numpy()


@pytest.mark.parametrize("arguments", [{}, {"in_channels": 3, "image_size": (12, 24)}, {"filter_size": (3, 3)}])
def test_the_pixels_shares_sum_to_what_the_image_adds_to_the_logit(arguments):
    net = make(**arguments, dropout=0.5)
    images, targets = grey(net, 3), torch.tensor([0, 4, 2])
    found = integrated_gradients(net, images, targets, steps=100)
    assert found.shape == (3, *net.image_size)
    expected = gained(net, images, targets)
    assert np.abs(expected).min() > 0.02
    np.testing.assert_allclose(found.sum((1, 2)), expected, atol=2e-4)


def test_the_midpoint_rule_s_error_falls_with_the_square_of_the_steps():
    net = make()
    images, targets = grey(net, 4), torch.arange(4)
    errors = [
        np.abs(integrated_gradients(net, images, targets, steps=steps).sum((1, 2)) - gained(net, images, targets))
        for steps in (50, 100)
    ]
    assert errors[0].sum() / errors[1].sum() == pytest.approx(4, rel=0.1)


def test_a_pixel_that_the_net_cannot_see_matters_nothing():
    net = make()
    net.patch_embed.proj.weight.data[:, :, 1, 2] = 0
    found = integrated_gradients(net, grey(net, 2), torch.tensor([0, 1]))
    unseen = np.zeros((16, 16), bool)
    unseen[1::4, 2::4] = True
    assert np.abs(found[:, unseen]).max() == 0
    assert np.abs(found[:, ~unseen]).min(0).max() > 0.01


def test_the_mean_grey_level_itself_matters_nothing():
    net = make()
    images = grey(net, 1)
    images[..., :8] = 100
    found = integrated_gradients(net, images, torch.tensor([3]))
    assert np.abs(found[..., :8]).max() == 0
    assert np.abs(found[..., 8:]).max() > 0


def move_tokens(net, rows, columns):
    """Each filter moves the map by so many tokens, and does nothing else."""
    for block in net.blocks:
        impulse = torch.zeros(block.filter.map_size, dtype=torch.float64)
        impulse[rows, columns] = 1
        wave = torch.view_as_real(torch.fft.rfft2(impulse))[:, :, None]
        block.filter.complex_weight.data.copy_(wave.expand(-1, -1, block.filter.complex_weight.shape[2], -1))


def seen_patches(field, patch=4):
    """Which tokens' patches each map reaches, as sets of (row, column)."""
    height, width = (side // patch for side in field.shape[1:])
    mass = field.reshape(len(field), height, patch, width, patch)
    assert ((mass > 1e-6).all((2, 4)) == (mass > 1e-6).any((2, 4))).all()  # patches are seen whole or not at all
    return [set(zip(*np.nonzero(of_map), strict=True)) for of_map in mass.sum((2, 4)) > 1e-6]


def test_the_field_is_the_patch_until_a_filter_widens_it():
    net = make(image_size=(20, 24), depth=3)
    move_tokens(net, 0, 0)
    field = effective_receptive_field(net, grey(net, 3))
    assert field.shape == (4, 20, 24)
    np.testing.assert_allclose(field.sum((1, 2)), 1)
    assert seen_patches(field) == [{(2, 3)}] * 4


def test_the_field_follows_the_filters_and_wraps_round_the_edges():
    net = make(image_size=(20, 24), depth=3)
    move_tokens(net, 1, -1)
    token, *others = [(2, 3), (1, 4), (0, 5), (4, 0)]  # up and to the right, where the token's new content comes from
    found = seen_patches(effective_receptive_field(net, grey(net, 3)))
    assert found == [{token}, {token, *others[:1]}, {token, *others[:2]}, {token, *others}]


def test_a_token_of_a_further_stage_sees_the_patches_that_it_was_made_of():
    net = make(image_size=(16, 24), dim=(8, 16), depth=(1, 1))
    move_tokens(net, 0, 0)
    field = effective_receptive_field(net, grey(net, 3))
    of_four = {(row, column) for row in (2, 3) for column in (2, 3)}  # token (1, 1) of 2 x 3
    assert seen_patches(field) == [{(2, 3)}, {(2, 3)}, of_four]


def test_a_random_net_sees_the_whole_picture_after_one_block():
    field = effective_receptive_field(make(), grey(make(), 2))
    assert [len(patches) for patches in seen_patches(field)] == [1, 16, 16]


def test_the_patch_s_field_is_the_size_of_its_gradient_and_no_channel_cancels_another():
    net = make(dim=2)
    weight = torch.rand(4, 4, dtype=torch.float64)
    net.patch_embed.proj.weight.data[0, 0], net.patch_embed.proj.weight.data[1, 0] = weight, -weight
    field = effective_receptive_field(net, grey(net, 30))
    np.testing.assert_allclose(field[0, 8:12, 8:12], weight / weight.sum())


def test_the_field_is_a_mean_over_all_images_whatever_the_batches(monkeypatch):
    net = make()
    images = grey(net, 5)
    whole = effective_receptive_field(net, images)
    monkeypatch.setattr(saliency, "_BATCH", 2)
    np.testing.assert_allclose(effective_receptive_field(net, images), whole, rtol=1e-9)
    assert np.abs(effective_receptive_field(net, images[:4])[1:] / whole[1:] - 1).max() > 0.01


def test_half_of_the_field_is_within_its_radius():
    field = np.zeros((4, 96, 80))
    field[0, 48:56, 40:48] = 1 / 64
    field[1, 20:84, 12:76] = 1 / 64**2
    field[2, 50:54, 42:46] = 0.49 / 16
    field[2, 51, 73] = 0.51
    field[3, 51:53, 43:45] = 0.51 / 4
    field[3, 0, 0] = 0.49
    radius = receptive_radius(field)
    assert radius[0] == pytest.approx(np.sqrt(32 / np.pi), abs=0.5)
    assert radius[1] == pytest.approx(np.sqrt(64**2 / 2 / np.pi), abs=0.5)
    assert radius[2] == pytest.approx(np.hypot(29.5, 0.5))
    assert radius[3] == pytest.approx(np.hypot(0.5, 0.5))


FUNCTIONS = [
    lambda net, images: integrated_gradients(net, images, torch.zeros(len(images), dtype=torch.int64), steps=4),
    effective_receptive_field,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_net_and_the_images_stay_as_they_were(function):
    net = make(dropout=0.5).train()
    net.blocks[0].eval()
    net.head.weight.requires_grad_(False)
    images = grey(net, 2).double()
    net(images).sum().backward()
    modes = [module.training for module in net.modules()]
    gradients = {name: (p.grad, None if p.grad is None else p.grad.clone()) for name, p in net.named_parameters()}
    before = images.clone()
    function(net, images)
    assert [module.training for module in net.modules()] == modes
    for name, parameter in net.named_parameters():
        kept, values = gradients[name]
        assert parameter.grad is kept
        assert kept is None or torch.equal(kept, values)
        assert parameter.requires_grad == (name != "head.weight")
    assert not any(module._forward_hooks for module in net.modules())
    assert not images.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_neither_dropout_nor_a_caller_without_gradients_changes_the_result(function):
    net = make(dropout=0.5)
    images = grey(net, 2)
    expected = function(net.eval(), images)
    net.train()
    with torch.inference_mode():
        np.testing.assert_array_equal(function(net, images.double()), expected)
    with torch.no_grad():
        np.testing.assert_array_equal(function(net, images), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_large_maps_without_matrices_work(function, monkeypatch):
    monkeypatch.setattr(global_filter, "MATRIX_MAX_TOKENS", 0)
    net = make(dim=2).float()
    assert net.blocks[0].filter.along_width is None
    found = function(net, grey(net, 2))
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_a_receptive_field_is_that_of_one_view():
    one, five = make(), make(shifted_views=True, mirrored_views=True)
    images = grey(one, 3)
    np.testing.assert_allclose(effective_receptive_field(five, images), effective_receptive_field(one, images))
