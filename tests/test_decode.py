import numpy as np
import pytest
from PIL import Image

from gfnet_pl.data.decode import read_all, read_grey
from gfnet_pl.errors import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_a_grey_picture_of_the_right_size_is_read_as_it_is(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", (16, 16)), RAMP)


def test_height_and_width_are_not_swapped(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert read_grey(tmp_path / "a.png", (8, 24)).shape == (8, 24)


def test_a_jpeg_is_decoded_in_grey_and_reduced_close_to_a_full_decode(tmp_path):
    smooth = np.add.outer(np.arange(200), np.arange(200)).astype(np.uint8) // 2
    Image.merge("RGB", [Image.fromarray(smooth)] * 3).save(tmp_path / "a.jpg", quality=95)
    full = Image.open(tmp_path / "a.jpg").convert("L").resize((50, 50), Image.Resampling.BOX)
    difference = read_grey(tmp_path / "a.jpg", (50, 50)).astype(int) - np.asarray(full)
    assert np.abs(difference).mean() < 2


def test_sixteen_bit_grey_keeps_its_levels(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 256 + 7).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", (16, 16)), RAMP)


def test_a_camera_s_rotation_is_applied(tmp_path):
    picture = Image.fromarray(np.repeat([[0, 0, 250, 250]], 4, 0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    picture.save(tmp_path / "a.png", exif=exif)
    shown = read_grey(tmp_path / "a.png", (4, 4))
    assert shown[0].max() == 0
    assert shown[3].min() == 250


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_picture_is_named(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match=r"broken.png cannot be read as a picture .*; repair or delete it"):
        read_grey(tmp_path / "broken.png", (16, 16))


def test_a_truncated_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a.jpg cannot be read"):
        read_grey(tmp_path / "a.jpg", (64, 64))


def test_many_pictures_come_in_the_order_of_their_paths(tmp_path):
    paths = []
    for number in range(600):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((2, 2), number % 251, np.uint8)).save(paths[-1])
    np.testing.assert_array_equal(read_all(paths, (2, 2))[:, 0, 0], np.arange(600) % 251)


def test_one_broken_picture_among_many_stops_and_is_named(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(300)]
    for path in paths:
        Image.fromarray(RAMP).save(path)
    paths[270].write_bytes(b"x")
    with pytest.raises(UserError, match=r"270.png"):
        read_all(paths, (16, 16))
