import numpy as np
import pytest
from PIL import Image

from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import read_picture

WIDE = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (20, 1))  # 20 x 40


def test_letterbox_keeps_the_shape_and_continues_the_edges(tmp_path):
    Image.fromarray(np.pad(WIDE[2:-2], ((2, 2), (0, 0)), constant_values=200)).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", Canvas(40, 40, fit="letterbox"))
    assert (found[:12] == 200).all()
    assert (found[-12:] == 200).all()
    np.testing.assert_array_equal(found[12:-12], WIDE[2:-2])


def test_crop_takes_the_middle_in_its_own_shape(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", Canvas(20, 20, fit="crop")), WIDE[:, 10:30])


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("size", [(40, 20), (17, 33), (500, 3), (3, 500), (1, 1)])
def test_every_shape_fills_the_canvas_and_a_turned_file_looks_like_an_upright_one(tmp_path, fit, colour, size):
    canvas = Canvas(13, 16, colour, fit)
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8))
    upright.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    one, other = (read_picture(tmp_path / name, canvas).astype(int) for name in ("a.png", "b.png"))
    assert one.shape == canvas.shape
    np.testing.assert_allclose(one, other, atol=2)


def test_a_picture_of_the_canvas_s_shape_is_the_same_with_every_fit(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    for fit in ("letterbox", "crop"):
        np.testing.assert_array_equal(
            read_picture(tmp_path / "a.png", Canvas(7, 14, fit=fit)), read_picture(tmp_path / "a.png", Canvas(7, 14))
        )


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("RGB", (10, 200, 30)),
        ("CMYK", (10, 200, 30)),
        ("P", (0, 204, 51)),
        ("L", (124, 124, 124)),
    ],
)
def test_colours_are_read_as_they_are_and_grey_as_three_equal_ones(tmp_path, mode, expected):
    Image.new("RGB", (4, 4), (10, 200, 30)).convert(mode, dither=Image.Dither.NONE).save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_picture(tmp_path / "a.tif", Canvas(2, 2, colour=True))[0, 0], expected, atol=1)


def test_a_jpeg_keeps_its_colours_at_a_reduced_scale(tmp_path):
    Image.new("RGB", (400, 400), (10, 200, 30)).save(tmp_path / "a.jpg")
    found = read_picture(tmp_path / "a.jpg", Canvas(8, 8, colour=True)).astype(int)
    np.testing.assert_allclose(found, np.broadcast_to((10, 200, 30), (8, 8, 3)), atol=4)


def test_what_is_transparent_is_white_in_colour_too(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 200, 30, 255))
    image.putpixel((1, 0), (10, 200, 30, 0))
    image.save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", Canvas(1, 2, colour=True))
    assert found.tolist() == [[[10, 200, 30], [255, 255, 255]]]


def test_sixteen_bit_grey_has_three_equal_channels(tmp_path):
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", Canvas(2, 2, colour=True)) == 40_000 >> 8).all()
