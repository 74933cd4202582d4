import numpy as np
import pytest
from PIL import Image, ImageOps

from gfnet_pl.data.glance import aspect_ratios, colour_tells, coloured_share


def scene(number):
    """Soft shapes and camera noise, (48, 64) grey levels."""
    rng = np.random.default_rng(number)
    soft = Image.fromarray(rng.integers(0, 255, (6, 8), dtype=np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(soft) + rng.normal(0, 8, (48, 64)), 0, 255).astype(np.uint8))


def painted(number):
    colours = [np.asarray(scene(3 * number + channel)) for channel in range(3)]
    return Image.fromarray(np.stack(colours, axis=2))


def sepia(number):
    return ImageOps.colorize(scene(number), (20, 10, 0), (250, 230, 190), mid=(120, 80, 40))


def channel_noise(number):
    noise = np.random.default_rng(number).normal(0, 8, (48, 64, 3))
    return Image.fromarray(np.clip(np.asarray(scene(number).convert("RGB")) + noise, 0, 255).astype(np.uint8))


def saved(folder, images, suffix="jpg"):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.{suffix}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (scene, "png"),
        (lambda number: scene(number).convert("RGB"), "jpg"),
        (lambda number: scene(number).convert("RGBA"), "png"),
        (sepia, "jpg"),
        (channel_noise, "jpg"),
    ],
)
def test_grey_pictures_have_no_colour_however_they_are_stored_tinted_or_noisy(tmp_path, make, suffix):
    paths = saved(tmp_path / "a", [make(number) for number in range(20)], suffix)
    assert coloured_share(paths) == 0
    assert not colour_tells(paths)


def test_colour_tells_where_each_class_has_its_own_colour_and_brightness(tmp_path):
    """The median at a brightness is then the colour of a class, and no tint of all."""
    rng = np.random.default_rng(0)
    red, green, blue = (
        [Image.fromarray(np.uint8(np.clip(colour + rng.normal(0, 8, (24, 24, 3)), 0, 255))) for _ in range(10)]
        for colour in ((120, 20, 20), (60, 160, 60), (170, 190, 250))
    )
    assert colour_tells(saved(tmp_path / "a", [*red, *green, *blue]))
    assert colour_tells(saved(tmp_path / "b", [*red, *green]))


def test_colour_tells_where_a_tenth_of_the_pictures_has_it(tmp_path):
    grey = [scene(number).convert("RGB") for number in range(36)]
    assert not colour_tells(saved(tmp_path / "a", [painted(0), *grey]))
    paths = saved(tmp_path / "b", [*(painted(number) for number in range(4)), *grey])
    assert coloured_share(paths) == pytest.approx(0.1)
    assert colour_tells(paths)


def test_classes_of_one_flat_colour_each_have_colour(tmp_path):
    flat = [Image.new("RGB", (20, 20), tint) for tint in ("#3cab3c", "#c8643c") for _ in range(10)]
    assert colour_tells(saved(tmp_path / "a", flat, "png"))


def test_aspect_ratios_are_those_that_are_seen_and_only_of_what_can_be_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (one,) = saved(tmp_path, [Image.new("L", (30, 20))])
    turned = tmp_path / "turned.jpg"
    Image.new("L", (30, 20)).save(turned, exif=exif)
    (tmp_path / "broken.png").write_bytes(b"x")
    np.testing.assert_allclose(aspect_ratios([one, turned, tmp_path / "broken.png", one]), [1.5, 2 / 3, 1.5])
    assert len(aspect_ratios([one] * 50, most=7)) == 7
    assert len(aspect_ratios([])) == 0
    assert coloured_share([]) == 0
