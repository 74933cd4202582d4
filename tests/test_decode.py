"""Every kind of picture that people bring, as real files: what is read from it, or why it is broken."""

import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gfnet_pl import processes
from gfnet_pl.data import decode
from gfnet_pl.data.cache import decoding
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import BrokenPicture, decoded, heif_version, read_all, read_picture, refuse_broken
from gfnet_pl.errors import UserError

NO_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
AVIF = pytest.param("avif", marks=NO_AVIF)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMP_16 = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


def read_grey(path, size):
    return read_picture(path, Canvas(*size))


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


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.gif", "a.tif", "a.webp", "a.pgm"])
def test_a_truncated_picture_is_broken_and_not_filled_up(tmp_path, name):
    Image.fromarray(NOISE).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    read_grey(tmp_path / name, (64, 64))
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BrokenPicture, match=rf"{name} cannot be read as a picture"):
        read_grey(tmp_path / name, (64, 64))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it is empty"), (b"no picture at all", "it is none of PNG, JPEG, .*")]
)
def test_an_empty_file_and_a_text_named_jpg_are_broken_for_that_reason(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BrokenPicture) as caught:
        read_grey(tmp_path / "a.jpg", (16, 16))
    assert str(tmp_path) not in caught.value.reason
    assert caught.match(reason)


def test_a_format_that_starts_other_programs_is_not_read(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(BrokenPicture, match="it is none of"):
        read_grey(tmp_path / "a.png", (16, 16))


def test_a_missing_picture_is_no_broken_one(tmp_path):
    with pytest.raises(UserError, match=r"gone.png does not exist; if the pictures have moved, give --data.root") as it:
        read_grey(tmp_path / "gone.png", (16, 16))
    assert not isinstance(it.value, BrokenPicture)


def test_what_the_system_refuses_to_read_is_no_broken_picture(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder.png cannot be opened \(Is a directory\)") as caught:
        read_grey(tmp_path / "folder.png", (16, 16))
    assert not isinstance(caught.value, BrokenPicture)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("L", (8, 8), level) for level in (40, 120, 200)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **_lossless(suffix))
    np.testing.assert_allclose(read_grey(tmp_path / f"a.{suffix}", (8, 8)), 40, atol=1)


def test_of_a_multi_picture_jpeg_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (32, 32), (level,) * 3) for level in (40, 200)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert _opened(tmp_path / "a.jpg").format == "MPO"
    np.testing.assert_allclose(read_grey(tmp_path / "a.jpg", (8, 8)), 40, atol=2)


@pytest.mark.parametrize("suffix", ["bmp", "webp", "pgm", "tif", "gif", "jp2", "j2k", AVIF])
def test_the_other_formats_keep_their_levels(tmp_path, suffix):
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}", **_lossless(suffix))
    np.testing.assert_allclose(read_grey(tmp_path / f"a.{suffix}", (16, 16)), RAMP, atol=1)


def test_heic_is_read_with_pillow_heif_and_without_it_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "heif_version", lambda: "")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(BrokenPicture, match="it is HEIC, which needs a package: pip install pillow-heif"):
        read_grey(tmp_path / "a.heic", (16, 16))
    monkeypatch.undo()
    pytest.importorskip("pillow_heif")
    assert heif_version() in decoding()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(RAMP)).save(tmp_path / "b.heic", exif=exif.tobytes(), quality=95)
    np.testing.assert_allclose(read_grey(tmp_path / "b.heic", (16, 16)).astype(int), RAMP, atol=20)


def test_the_content_and_not_the_name_tells_the_format(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.jpg", (16, 16)), RAMP)


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    Image.new("CMYK", (32, 32), (0, 0, 0, 0)).save(tmp_path / "white.jpg", quality=95)
    np.testing.assert_allclose(read_grey(tmp_path / "red.jpg", (8, 8)), 76, atol=3)
    np.testing.assert_allclose(read_grey(tmp_path / "white.jpg", (8, 8)), 255, atol=3)


def test_a_palette_is_looked_up(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    assert _opened(tmp_path / "a.png").mode == "P"
    assert read_grey(tmp_path / "a.png", (1, 2)).tolist() == [[76, 29]]


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert read_grey(tmp_path / "a.png", (1, 2)).tolist() == [[0, 255]]


@pytest.mark.parametrize("colour", [0, 90, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_shows_white_whatever_colour_lies_there(tmp_path, mode, colour):
    alpha = np.array([[0, 255, 127]], np.uint8)
    grey = np.array([[colour, 40, 0]], np.uint8)
    bands = [Image.fromarray(grey)] * (len(mode) - 1)
    Image.merge(mode, [*bands, Image.fromarray(alpha)]).save(tmp_path / "a.png")
    assert read_grey(tmp_path / "a.png", (1, 3)).tolist() == [[255, 40, 128]]


def _palette(path: Path, transparency: int | bytes) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    picture.putpalette([0, 0, 0, 40, 40, 40, 80, 80, 80])
    picture.save(path, transparency=transparency)


@pytest.mark.parametrize(("transparency", "shown"), [(0, [255, 40, 80]), (b"\xff\x00\x7f", [0, 255, 168])])
def test_a_transparent_palette_entry_shows_white(tmp_path, transparency, shown):
    _palette(tmp_path / "a.png", transparency)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_grey(tmp_path / "a.png", (1, 3)).tolist()
    np.testing.assert_allclose(found, [shown], atol=1)
    assert not told


def test_a_transparent_palette_in_a_gif_shows_white(tmp_path):
    _palette(tmp_path / "a.gif", 0)
    assert read_grey(tmp_path / "a.gif", (1, 3)).tolist() == [[255, 40, 80]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_level_that_is_declared_transparent_shows_white(tmp_path, dtype):
    scale = 1 if dtype == np.uint8 else 256
    Image.fromarray((np.array([[10, 20, 30]]) * scale).astype(dtype)).save(tmp_path / "a.png", transparency=20 * scale)
    assert read_grey(tmp_path / "a.png", (1, 3)).tolist() == [[10, 255, 30]]


def test_a_palette_with_an_alpha_band_shows_white(tmp_path):
    picture = Image.merge("RGBA", [Image.new("L", (4, 4), 10)] * 3 + [Image.new("L", (4, 4), 0)]).convert("PA")
    assert np.asarray(decode._grey(picture)).tolist() == [[255] * 4] * 4


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_monotone_and_keeps_more_than_200_levels(tmp_path, suffix):
    Image.fromarray(RAMP_16).save(tmp_path / f"a.{suffix}")
    found = read_grey(tmp_path / f"a.{suffix}", (32, 32)).ravel()
    assert (np.diff(found.astype(int)) >= 0).all()
    assert len(np.unique(found)) > 200
    assert (found[0], found[-1]) == (0, 255)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_of_either_byte_order(tmp_path, order):
    _write_tiff(tmp_path / "a.tif", RAMP_16, order)
    assert _opened(tmp_path / "a.tif").mode == ("I;16" if order == "<" else "I;16B")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.tif", (32, 32)), RAMP_16 >> 8)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1000, 1000), (0, 1e6)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_without_a_fixed_range_is_stretched_monotonely(tmp_path, dtype, low, high):
    values = np.linspace(low, high, 1024).reshape(32, 32).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    found = read_grey(tmp_path / "a.tif", (32, 32)).ravel()
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[0], found[-1]) == (0, 255)
    assert len(np.unique(found)) >= min(201, len(np.unique(values)))


def test_a_flat_float_picture_is_its_grey_level(tmp_path):
    for name, value, level in (("a", 130.0, 130), ("b", -5.0, 0), ("c", 3e4, 255)):
        Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / f"{name}.tif")
        assert (read_grey(tmp_path / f"{name}.tif", (4, 4)) == level).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_picture_with_values_that_are_no_numbers_is_broken(tmp_path, value):
    values = np.ones((4, 4), np.float32)
    values[2, 2] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(BrokenPicture, match="no finite numbers"):
        read_grey(tmp_path / "a.tif", (4, 4))


# rows and columns of the stored picture -> how it is to be shown, by EXIF's definition
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("scale", [1, 8])  # 8: the JPEG is decoded at a reduced scale
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", AVIF])
@pytest.mark.parametrize("orientation", SHOWN)
def test_each_orientation_is_applied_once(tmp_path, suffix, orientation, scale):
    stored = np.kron(np.array([[0, 60, 120], [180, 220, 250]]), np.ones((8, 8))).astype(np.uint8)  # 16 x 24
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(np.kron(stored, np.ones((scale, scale), np.uint8)))
    large.save(tmp_path / f"a.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else _lossless(suffix)))
    shown = SHOWN[orientation](stored)
    found = read_grey(tmp_path / f"a.{suffix}", shown.shape).astype(int)
    assert np.abs(found - shown).mean() < (12 if scale == 8 else 3)


def test_a_sideways_jpeg_keeps_its_detail(tmp_path):
    """A reduced scale that is chosen for the picture as it lies would be too small for it as it is shown."""
    stripes = np.tile(np.repeat([0, 255], 2), 200).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tile(stripes, (1600, 1))).save(tmp_path / "a.jpg", exif=exif, quality=95)  # stored 800 wide
    assert read_grey(tmp_path / "a.jpg", (400, 100))[:, 50].std() > 100


def test_a_damaged_exif_block_leaves_the_picture_upright(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", (16, 16)), RAMP)
    Image.fromarray(RAMP).save(tmp_path / "b.png", exif=b"nothing")
    np.testing.assert_array_equal(read_grey(tmp_path / "b.png", (16, 16)), RAMP)


def test_one_pixel_fills_the_picture(tmp_path):
    for suffix in ("png", "jpg"):
        Image.new("L", (1, 1), 77).save(tmp_path / f"a.{suffix}")
        np.testing.assert_allclose(read_grey(tmp_path / f"a.{suffix}", (96, 96)), 77, atol=1)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_20000_pixels_wide_is_read(tmp_path, suffix):
    wide = np.tile(np.linspace(0, 255, 20_000).astype(np.uint8), (40, 1))
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    found = read_grey(tmp_path / f"a.{suffix}", (96, 96))
    assert np.abs(found - np.linspace(0, 255, 96)).max() < 4


def _bomb(path: Path, width: int, height: int) -> None:
    """A whole 1-bit PNG, tiny on disk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize("size", [(10_001, 10_000), (30_000, 30_000)])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, size):
    _bomb(tmp_path / "a.png", *size)
    assert (tmp_path / "a.png").stat().st_size < 300_000
    script = """
import resource, sys, warnings
from gfnet_pl.data.decode import BrokenPicture, read_picture
from gfnet_pl.data.canvas import Canvas
warnings.simplefilter("error")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_picture(sys.argv[1], Canvas(96, 96))
except BrokenPicture as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error.reason)
"""
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    kib, reason = told.stdout.strip().split(" ", 1)
    assert reason == "it has more than 100 million pixels"
    assert int(kib) < 20_000
    assert told.stderr == ""


def test_a_picture_below_the_limit_is_read_without_a_warning(tmp_path, monkeypatch):
    _bomb(tmp_path / "a.png", 10_000, 9_500)  # Pillow warns from 89 million pixels on
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert (read_grey(tmp_path / "a.png", (8, 8)) == 0).all()
    assert not told


def test_the_limit_holds_where_pillow_s_own_is_switched_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    _bomb(tmp_path / "a.png", 30_000, 30_000)
    with pytest.raises(BrokenPicture, match="100 million pixels"):
        read_grey(tmp_path / "a.png", (8, 8))


def test_no_picture_is_changed_on_disk(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:500])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    read_grey(tmp_path / "a.jpg", (16, 16))
    with pytest.raises(BrokenPicture):
        read_grey(tmp_path / "b.jpg", (16, 16))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_many_pictures_come_in_the_order_of_their_paths(tmp_path):
    paths = []
    for number in range(600):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((2, 2), number % 251, np.uint8)).save(paths[-1])
    np.testing.assert_array_equal(read_all(paths, Canvas(2, 2))[:, 0, 0], np.arange(600) % 251)


def test_one_broken_picture_among_many_stops_and_is_named(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(300)]
    for path in paths:
        Image.fromarray(RAMP).save(path)
    paths[270].write_bytes(b"x")
    with pytest.raises(UserError, match=r"270.png"):
        read_all(paths, Canvas(16, 16))


@pytest.fixture
def many(tmp_path):
    """Enough pictures for processes, in several chunks; each is flat and tells its number."""
    paths = [tmp_path / f"{number:03}.png" for number in range(700)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((2, 2), number % 251, np.uint8)).save(path)
    return paths


def test_processes_give_what_one_picture_at_a_time_gives(many, monkeypatch):
    started = []
    start = processes._start
    monkeypatch.setattr(processes, "_start", lambda *work: started.append(start(*work)) or started[-1])
    np.testing.assert_array_equal(read_all(many, Canvas(4, 6)), [read_grey(path, (4, 6)) for path in many])
    assert len(started) == min(processes.cores(), 3)
    assert all(process.poll() is not None for process in started)


def test_the_broken_are_listed_by_their_place_and_stay_black(many):
    many[3].write_bytes(b"")
    many[600].write_bytes(b"x")
    images, broken, start = [], {}, 0
    for chunk in decoded([str(path) for path in many], Canvas(2, 2)):
        broken |= {start + place: reason for place, reason in chunk.broken}
        start += len(chunk.images)
        images.append(chunk.images)
    assert broken.keys() == {3, 600}
    assert broken[3] == "it is empty"
    assert (np.concatenate(images)[[3, 600]] == 0).all()
    np.testing.assert_array_equal(np.concatenate(images)[599, 0, 0], 599 % 251)


def test_a_missing_picture_is_named_from_a_process(many):
    many[500].unlink()
    with pytest.raises(UserError, match=r"500.png does not exist; if the pictures have moved"):
        read_all(many, Canvas(2, 2))


def test_names_that_are_no_unicode_reach_a_process(many):
    strange = os.fsencode(many[400].parent) + b"/\xff\n \xc3\xa4.png"
    os.rename(many[400], strange)
    many[400] = Path(os.fsdecode(strange))
    assert read_all(many, Canvas(2, 2))[400, 0, 0] == 400 % 251


def test_a_process_that_dies_is_one_error_and_none_is_left(many, monkeypatch):
    started = []
    start = processes._start

    def doomed(*work):
        started.append(start(*work))
        started[-1].kill()
        return started[-1]

    monkeypatch.setattr(processes, "_start", doomed)
    with pytest.raises(UserError, match="a process that decodes pictures ended early"):
        read_all(many, Canvas(2, 2))
    assert all(process.poll() is not None for process in started)


def test_more_chunks_than_processes_do_not_wait_for_a_dead_one(many, monkeypatch):
    monkeypatch.setattr(decode, "_CHUNK_PICTURES", 10)
    test_a_process_that_dies_is_one_error_and_none_is_left(many, monkeypatch)


def test_stopping_half_way_leaves_no_process_or_thread(many, monkeypatch):
    started = []
    start = processes._start
    monkeypatch.setattr(processes, "_start", lambda *work: started.append(start(*work)) or started[-1])
    threads = threading.active_count()
    chunks = decoded([str(path) for path in many], Canvas(2, 2))
    next(chunks)
    assert all(os.getpgid(process.pid) != os.getpgid(0) for process in started), "Ctrl-C would reach them too"
    chunks.close()
    assert started
    assert all(process.poll() is not None for process in started)
    assert threading.active_count() == threads


def test_the_processes_end_when_their_parent_is_killed(many):
    script = f"""
import sys, time
from gfnet_pl import processes
from gfnet_pl.data import decode
start = processes._start
def told(*work):
    process = start(*work)
    print(process.pid, flush=True)
    return process
processes._start = told
chunks = decode.decoded({[str(path) for path in many]!r}, (2, 2))
next(chunks)
print("begun", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pids = []
        for line in parent.stdout:
            if line == "begun\n":
                break
            pids.append(int(line))
        assert all(_runs(pid) for pid in pids)
        parent.kill()
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)


def test_a_script_without_a_main_guard_can_decode(many, tmp_path):
    script = tmp_path / "script.py"
    paths = [str(path) for path in many]
    imports = "from gfnet_pl.data.canvas import Canvas\nfrom gfnet_pl.data.decode import read_all\n"
    script.write_text(f"{imports}print(read_all({paths!r}, Canvas(2, 2)).shape)\n")
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "(700, 2, 2)\n"


@pytest.mark.parametrize("setting", ["", None])
def test_a_file_in_the_current_folder_is_not_imported_by_the_processes(many, tmp_path, monkeypatch, setting):
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    if setting is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", setting)
    assert len(read_all(many, Canvas(2, 2))) == 700


def test_the_first_ten_broken_and_the_count_are_named_in_one_line():
    broken = [(f"A/{number}.jpg", "it is empty") for number in range(1234)]
    with pytest.raises(UserError) as caught:
        refuse_broken(Path("data"), broken)
    text = str(caught.value)
    assert text.startswith("data: 1,234 broken pictures: A/0.jpg (it is empty), A/1.jpg (it is empty)")
    assert "A/9.jpg" in text
    assert "A/10.jpg" not in text
    assert text.endswith("and 1,224 more; repair or delete them, or give --data.on_broken skip")
    assert "\n" not in text


def test_one_broken_picture_is_named_and_none_is_no_error():
    with pytest.raises(UserError, match=r"^data: 1 broken picture: a.jpg \(why\); repair"):
        refuse_broken(Path("data"), [("a.jpg", "why")])
    refuse_broken(Path("data"), [])


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image


def _lossless(suffix: str) -> dict[str, int]:
    return {"webp": {"lossless": True}, "avif": {"quality": 100}}.get(suffix, {})


def _write_tiff(path: Path, values: np.ndarray, order: str) -> None:
    """A minimal uncompressed 16-bit grey TIFF, as Pillow writes it in its own byte order only."""
    height, width = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(pixels)))
    out = io.BytesIO()
    out.write((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(pixels)) + pixels)
    out.write(struct.pack(f"{order}H", len(tags)))
    for tag, value in tags:
        out.write(struct.pack(f"{order}HHII", tag, 4, 1, value))
    out.write(struct.pack(f"{order}I", 0))
    path.write_bytes(out.getvalue())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_tiff_whose_strip_lies_where_no_file_reaches_is_broken_and_not_the_system(tmp_path):
    stream = io.BytesIO()
    Image.effect_noise((40, 32), 80).save(stream, "TIFF")
    content = bytearray(stream.getvalue())
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    (strip,) = (
        place
        for place in range(directory + 2, directory + 2 + 12 * entries, 12)
        if struct.unpack_from("<H", content, place)[0] == 273
    )
    struct.pack_into("<HI", content, strip + 2, 16, 1)  # its offset has eight bytes, which are found elsewhere
    (tmp_path / "a.tiff").write_bytes(content)
    with pytest.raises(BrokenPicture):
        read_picture(tmp_path / "a.tiff", Canvas(16, 16))
