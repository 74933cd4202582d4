"""Augmentation: of each image by its own seed, in the stated ranges, and not at all when it is off."""

import dataclasses

import pytest
import torch

from gfnet_pl.data.augment import Augment, uniforms
from gfnet_pl.errors import UserError

OPTIONS = {
    "rotation": 20.0,
    "scale": 0.2,
    "shift": 0.1,
    "flip": 0.5,
    "brightness": 0.2,
    "contrast": 0.3,
    "erasing": 0.5,
}
SEEDS = torch.arange(64) * 7919


def noise(count=64, height=24, width=24):
    return torch.randint(0, 256, (count, 1, height, width), generator=torch.Generator().manual_seed(3)).byte()


def blob(count=64, size=33, spread=4.0):
    """A soft white spot in the middle of each image."""
    axis = torch.arange(size) - size // 2
    spot = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * spread**2))
    return (255 * spot).expand(count, 1, size, size).contiguous()


def centre(images):
    """Mean row and column, in pixels from the middle."""
    axis = torch.arange(images.shape[-1]) - images.shape[-1] // 2
    mass = images.sum((1, 2, 3))
    return (images.sum((1, 3)) @ axis.float()) / mass, (images.sum((1, 2)) @ axis.float()) / mass


def apply(images, seeds=SEEDS, **options):
    return Augment(**options)(images, seeds[: len(images)])


def test_off_returns_the_very_batch():
    images = noise()
    assert Augment()(images, SEEDS) is images
    assert Augment().off


def test_every_option_has_a_test_value_and_changes_the_images():
    assert OPTIONS.keys() == {field.name for field in dataclasses.fields(Augment)}
    for name, value in OPTIONS.items():
        images = noise()
        changed = apply(images, **{name: value})
        assert not torch.equal(changed, images.float()), name
        assert changed.shape == images.shape
        assert changed.dtype == torch.float32
        assert changed.min() >= 0, name
        assert changed.max() <= 255, name


@pytest.mark.parametrize("name", OPTIONS)
def test_equal_seeds_give_equal_batches_and_others_others(name):
    options = {name: OPTIONS[name]}
    once, again = apply(noise(), **options), apply(noise(), **options)
    other = apply(noise(), seeds=SEEDS + 1, **options)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_is_changed_alike_in_any_batch(name):
    options = {name: OPTIONS[name]}
    whole = apply(noise(), **options)
    few = Augment(**options)(noise()[40:43], SEEDS[40:43])
    torch.testing.assert_close(few, whole[40:43])


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - {"flip", "erasing"}))
def test_each_image_of_a_batch_has_its_own_parameters(name):
    images = noise(1).expand(64, -1, -1, -1)
    changed = apply(images, **{name: OPTIONS[name]})
    assert len(torch.unique(changed.flatten(1), dim=0)) >= 62  # two may be nearly alike


def test_uniform_numbers_are_uniform_independent_and_depend_on_the_seed_only():
    draws = uniforms(torch.arange(-50_000, 50_000), 6)
    assert draws.min() >= 0
    assert draws.max() < 1
    torch.testing.assert_close(draws.mean(0), torch.full((6,), 0.5), atol=0.005, rtol=0)
    torch.testing.assert_close(draws.var(0), torch.full((6,), 1 / 12), atol=0.002, rtol=0)
    assert (torch.corrcoef(draws.T) - torch.eye(6)).abs().max() < 0.015
    assert torch.corrcoef(torch.stack((draws[:-1, 0], draws[1:, 0])))[0, 1].abs() < 0.015  # neighbouring seeds
    assert torch.equal(uniforms(torch.tensor([7]), 3)[0], uniforms(torch.tensor([1, 7]), 6)[1, :3])


def test_splitmix64_is_the_published_generator():
    # The generator's first outputs from state 1234567, as in the widely copied test vector of splitmix64.c.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = uniforms(torch.tensor([1234567]), 3)[0]
    assert found.tolist() == [(value >> 40) * 2.0**-24 for value in published]


def test_rotation_turns_by_up_to_the_angle_and_keeps_the_centre():
    images = torch.zeros(64, 1, 65, 65)
    images[..., 32, 32:56] = 255  # a hand of a clock
    changed = apply(images, rotation=30.0)
    rows, columns = centre(changed)
    angles = torch.atan2(rows, columns).rad2deg()
    assert 25 < angles.abs().max() <= 30.5
    assert angles.min() < -10 < 10 < angles.max()
    torch.testing.assert_close(torch.hypot(rows, columns), torch.full((64,), 11.5), atol=0.3, rtol=0)


def test_rotation_of_an_oblong_image_does_not_distort_it():
    images = torch.zeros(64, 1, 33, 97)
    images[..., 15:18, 48:60] = 255
    changed = apply(images, rotation=90.0)
    rows, columns = centre(changed[..., 32:65])  # further out is its mirror image
    torch.testing.assert_close(torch.hypot(rows, columns), torch.full((64,), 5.5), atol=0.3, rtol=0)


def test_shift_moves_by_up_to_its_share_of_the_side():
    rows, columns = centre(apply(blob(size=65), shift=0.2))
    for moved in (rows, columns):
        assert 11 < moved.abs().max() <= 13.1  # 20 % of 65 pixels
        assert moved.min() < -5 < 5 < moved.max()
    assert torch.corrcoef(torch.stack((rows, columns)))[0, 1].abs() < 0.3


def test_scale_grows_and_shrinks_by_its_share():
    area = apply(blob(spread=3.0), scale=0.2).sum((1, 2, 3)) / blob(1, spread=3.0).sum()
    factors = area.sqrt()
    assert 0.79 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.21
    rows, columns = centre(apply(blob(), scale=0.2))
    assert max(rows.abs().max(), columns.abs().max()) < 0.1


def test_flip_mirrors_its_share_of_the_images_exactly():
    images = noise()
    changed = apply(images, flip=0.5)
    mirrored = images.flip(3).float()
    flipped = torch.isclose(changed, mirrored, atol=1e-2).all(3).all(2).all(1)
    kept = torch.isclose(changed, images.float(), atol=1e-2).all(3).all(2).all(1)
    assert (flipped ^ kept).all()
    assert 20 < flipped.sum() < 44


def test_brightness_is_an_offset_and_contrast_a_factor_about_the_mean():
    images = torch.linspace(100, 150, 256).view(1, 1, 16, 16).expand(64, -1, -1, -1)
    offsets = apply(images, brightness=0.2) - images
    assert offsets.flatten(1).std(1).max() < 1e-3
    assert 45 < offsets.abs().max() <= 51.001
    stretched = apply(images, contrast=0.3)
    torch.testing.assert_close(stretched.mean((1, 2, 3)), images.mean((1, 2, 3)))
    factors = stretched.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.699 < factors.min() < 0.75
    assert 1.25 < factors.max() < 1.301


def test_erasing_makes_one_grey_rectangle_of_2_to_33_per_cent():
    changed = apply(torch.full((64, 1, 96, 96), 128.0), erasing=0.5)[:, 0]
    hit = changed != 128
    shares = hit.float().mean((1, 2))
    erased = shares > 0
    assert 20 < erased.sum() < 44
    assert shares[erased].min() > 0.015
    assert shares.max() < 0.34
    for image, inside in zip(changed[erased], hit[erased], strict=True):
        rows, columns = inside.any(1).sum(), inside.any(0).sum()
        assert inside.sum() == rows * columns
        assert image[inside].unique().numel() == 1


@pytest.mark.parametrize(
    ("name", "value"), [("rotation", -1.0), ("flip", 1.5), ("scale", 1.0), ("shift", float("nan"))]
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=rf"data.augment.{name} is {value}: it must be at least 0"):
        Augment(**{name: value})
