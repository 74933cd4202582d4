import copy

import numpy as np
import pytest
import torch

from gfnet_pl import GFNet
from gfnet_pl.evaluation import filters
from gfnet_pl.evaluation.filters import discriminative_frequencies, energy_by_radius, kernels, magnitude, movement
from gfnet_pl.model import global_filter

MAPS = [(4, 4), (3, 6), (6, 5)]


def make(map_size=(4, 4), reading="full", **arguments) -> GFNet:
    """A random net with weights large enough to see; its weights are not Hermitian where a real map's have to be."""
    torch.manual_seed(0)
    size = "full" if reading == "full" else (map_size[0] // 2 + 1, map_size[1] // 2 + 1)
    image_size = map_size[0] * 4, map_size[1] * 4
    net = GFNet(**{"image_size": image_size, "patch_size": 4, "dim": 3, "depth": 2, "filter_size": size} | arguments)
    for block in net.blocks:
        torch.nn.init.normal_(block.filter.complex_weight)
    return net


def filtered(module, tokens):
    """(H, W, C) -> (H, W, C), what the filter does to one map."""
    with torch.no_grad():
        return module(torch.tensor(tokens).flatten(0, 1)[None])[0].reshape(tokens.shape).numpy()


def grey(number, size):
    return torch.randint(0, 256, (number, 1, *size), dtype=torch.uint8)


@pytest.mark.parametrize("path", ["matrix", "fft"])
@pytest.mark.parametrize("reading", ["full", "half"])
@pytest.mark.parametrize("map_size", MAPS)
def test_a_filter_is_the_circular_convolution_with_its_kernel(map_size, reading, path, monkeypatch):
    monkeypatch.setattr(global_filter, "MATRIX_MAX_TOKENS", 10_000 if path == "matrix" else 0)
    net = make(map_size, reading).double()
    tokens = np.random.default_rng(0).normal(size=(*map_size, 3))
    found = kernels(net)
    for block, of_block in zip(net.blocks, found, strict=True):
        assert of_block.shape == (3, *map_size)
        expected = np.zeros_like(tokens)
        for i in range(map_size[0]):
            for j in range(map_size[1]):
                offset = i - map_size[0] // 2, j - map_size[1] // 2
                expected += of_block[:, i, j] * np.roll(tokens, offset, axis=(0, 1))
        np.testing.assert_allclose(filtered(block.filter, tokens), expected, atol=1e-6)


@pytest.mark.parametrize("reading", ["full", "half"])
@pytest.mark.parametrize("map_size", MAPS)
def test_magnitude_is_what_the_filter_does_to_each_frequency(map_size, reading):
    net = make(map_size, reading).double()
    found = magnitude(net)
    assert found.shape == (2, *map_size)
    noise = np.random.default_rng(0).normal(size=(*map_size, 3))
    for block, of_block in zip(net.blocks, found, strict=True):
        before, after = (np.fft.fft2(x, axes=(0, 1)) for x in (noise, filtered(block.filter, noise)))
        expected = np.abs(after / before).mean(axis=2)
        np.testing.assert_allclose(np.fft.ifftshift(of_block), expected, rtol=1e-5)
    assert found[0].std() > 0.1


def test_a_weight_that_a_real_map_cannot_have_is_not_shown():
    net = make((4, 4), depth=1, dim=2)
    weight = net.blocks[0].filter.complex_weight.data
    weight.zero_()
    weight[0, 0, :, 1] = 5.0  # an imaginary mean
    weight[1, 2, :, 0], weight[3, 2, :, 0] = 3.0, -3.0  # frequencies k and -k of the last column contradict each other
    assert np.abs(magnitude(net)).max() < 1e-12
    weight[1, 0, :, 0] = 2.0  # and -1, 0 has none: the two share it
    expected = np.zeros((1, 4, 4))
    expected[0, 1, 2] = expected[0, 3, 2] = 1.0
    np.testing.assert_allclose(magnitude(net), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("frequency", "radius"), [((0, 0), 0), ((1, 0), 1), ((7, 1), 1), ((2, 3), 4), ((4, 0), 4), ((5, 2), 4)]
)
def test_energy_is_at_the_radius_of_its_frequency(frequency, radius):
    net = make((8, 6), depth=1)
    net.blocks[0].filter.complex_weight.data.zero_()
    net.blocks[0].filter.complex_weight.data[frequency] = torch.tensor([1.0, 0.0])
    expected = np.zeros((1, 6))  # up to sqrt(4^2 + 3^2)
    expected[0, radius] = 1
    np.testing.assert_allclose(energy_by_radius(net), expected, atol=1e-12)


def test_energy_counts_both_halves_of_the_spectrum_and_squares_magnitudes():
    net = make((8, 8), depth=2)
    net.blocks[1].filter.complex_weight.data.zero_()
    weight = net.blocks[1].filter.complex_weight.data
    weight[0, 0, :, 0] = 2.0  # once in the spectrum
    weight[0, 2, :, 0] = 1.0  # twice, as 2 and -2
    weight[0, 4, :, 0] = 3.0  # once, as W is even
    shares = energy_by_radius(net)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[1, [0, 2, 4]] * 15, [4, 2, 9])


def test_movement_is_relative_to_the_epoch_before():
    snapshots = np.ones((4, 2, 3, 3))
    snapshots[1, 0] = 1.5
    snapshots[3, 1] = 0.0
    np.testing.assert_allclose(movement(snapshots), [[0, 0], [0.5, 0], [1 / 3, 0], [0, 1]])


def fisher_by_hand(net, images, labels, pair):
    seen = []
    hook = net.blocks[-1].filter.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        net.eval()(images)
    hook.remove()
    maps = seen[0].reshape(len(images), *net.map_size, -1).double().numpy()
    half = np.fft.rfft2(maps, axes=(1, 2))
    one, other = (half[labels.numpy() == label] for label in pair)
    distance = (np.abs(one.mean(0) - other.mean(0)) ** 2).sum(-1)
    spread = sum((np.abs(part - part.mean(0)) ** 2).sum((0, -1)) / (len(part) - 1) for part in (one, other))
    return distance / spread


@pytest.mark.parametrize(("map_size", "batch"), [((4, 4), 128), ((3, 6), 7), ((6, 5), 7)])
def test_discriminative_frequencies_are_fishers_ratio(map_size, batch, monkeypatch):
    monkeypatch.setattr(filters, "_BATCH", batch)
    net = make(map_size, dropout=0.5)
    images, labels = grey(40, net.image_size), torch.arange(40) % 4
    images[labels == 3] //= 2
    pairs = [(0, 3), (3, 1), (1, 0)]
    found = discriminative_frequencies(net, images, labels, pairs)
    assert found.shape == (3, map_size[0], map_size[1] // 2 + 1)
    for pair, of_pair in zip(pairs, found, strict=True):
        np.testing.assert_allclose(of_pair, fisher_by_hand(net, images, labels, pair), rtol=1e-4)


def test_classes_that_differ_in_one_wave_are_told_apart_there():
    net = make((6, 6), depth=1, dim=16)
    net.set_normalisation([128], [40])
    i, j = np.indices((6, 6))
    rng = np.random.default_rng(0)
    patch = rng.normal(size=(4, 4))
    wave = np.kron(np.cos(2 * np.pi * (i + 2 * j) / 6), patch)
    labels = torch.arange(120) % 2
    images = 128 + 20 * rng.normal(size=(120, 1, 24, 24)) + 10 * wave * labels.numpy()[:, None, None, None]
    (found,) = discriminative_frequencies(net, torch.from_numpy(images), labels, [(0, 1)])
    assert np.unravel_index(found.argmax(), found.shape) == (1, 2)
    found[1, 2] = 0
    assert found.max() < 0.2


def test_a_pair_with_a_class_of_fewer_than_two_images_has_no_ratio():
    net = make(dim=40)
    images, labels = grey(9, net.image_size), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2])
    found = discriminative_frequencies(net, images, labels, [(0, 2), (0, 1), (3, 1)])
    assert np.isnan(found[[0, 2]]).all()
    assert np.isfinite(found[1]).all()
    assert discriminative_frequencies(net, images, labels, []).shape == (0, 4, 3)


def test_only_images_of_the_pairs_are_looked_at(monkeypatch):
    net = make()
    images, labels = grey(40, net.image_size), torch.arange(40) % 4
    seen = []
    monkeypatch.setattr(
        GFNet,
        "features",
        lambda self, images, features=GFNet.features, **how: (seen.append(len(images)), features(self, images, **how))[
            1
        ],
    )
    discriminative_frequencies(net, images, labels, [(0, 1)])
    assert seen == [20]


def test_large_maps_without_matrices_work(monkeypatch):
    monkeypatch.setattr(global_filter, "MATRIX_MAX_TOKENS", 0)
    net = make((20, 20), dim=2)
    assert net.blocks[0].filter.along_width is None
    assert [of_block.shape for of_block in kernels(net)] == [(2, 20, 20)] * 2
    assert (magnitude(net).shape, energy_by_radius(net).shape) == ((2, 20, 20), (2, 15))
    ratio = discriminative_frequencies(net, grey(6, net.image_size), torch.arange(6) % 2, [(0, 1)])
    assert ratio.shape == (1, 20, 11)
    assert np.isfinite(ratio).all()


@pytest.mark.parametrize("size", [(8, 12), (4, 6)])
def test_a_further_stage_has_the_coarse_frequencies_of_the_first(size):
    net = make(size, dim=(3, 2), depth=(1, 2)).double()
    rows, columns = size[0] // 2, size[1] // 2  # of the second stage's map
    assert [of_block.shape for of_block in kernels(net)] == [(3, *size), (2, rows, columns), (2, rows, columns)]
    wave = np.cos(2 * np.pi * np.arange(columns) / columns)[None, :, None] * np.ones((rows, 1, 2))  # once across
    gain = (
        np.abs(np.fft.fft2(filtered(net.blocks[2].filter, wave)[..., 0]))[0, 1]
        / np.abs(np.fft.fft2(wave[..., 0]))[0, 1]
    )
    of_channels = [np.abs(np.fft.fft2(kernel))[0, 1] for kernel in kernels(net)[2]]
    assert of_channels[0] == pytest.approx(gain)
    found = magnitude(net)
    assert found.shape == (3, *size)
    assert found[2, size[0] // 2, size[1] // 2 + 1] == pytest.approx(np.mean(of_channels))
    assert (found > 0).sum((1, 2)).tolist() == [rows * columns * 4, rows * columns, rows * columns]
    assert energy_by_radius(net).sum(1) == pytest.approx(1)
    ratio = discriminative_frequencies(net, grey(6, net.image_size), torch.arange(6) % 2, [(0, 1)])
    assert ratio.shape == (1, rows, columns // 2 + 1)


def test_frequencies_are_those_of_one_view():
    images, labels, pairs = grey(12, (16, 16)), torch.arange(12) % 2, [(0, 1)]
    one, five = make(), make(shifted_views=True, mirrored_views=True)
    five.load_state_dict(one.state_dict())
    found = [discriminative_frequencies(net, images, labels, pairs) for net in (one, five)]
    np.testing.assert_allclose(found[0], found[1])


def test_the_net_stays_as_it_was():
    net = make(dropout=0.5).train()
    net.blocks[0].eval()
    net.head.weight.requires_grad_(False)
    net(grey(2, net.image_size)).sum().backward()
    modes = [module.training for module in net.modules()]
    gradients = {name: p.grad for name, p in net.named_parameters()}
    state = copy.deepcopy(net.state_dict())
    for found in (*kernels(net), magnitude(net), energy_by_radius(net)):
        found[:] = 0  # what comes back is the caller's own
    discriminative_frequencies(net, grey(6, net.image_size), torch.arange(6) % 2, [(0, 1)])
    assert [module.training for module in net.modules()] == modes
    assert all(p.grad is gradients[name] for name, p in net.named_parameters())
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
