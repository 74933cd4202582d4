"""The cache of decoded pictures: served whole or built again, shared by processes, never half-read."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from filelock import FileLock
from PIL import Image

from gfnet_pl.data import cache
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError
from gfnet_pl.files import cache_folder

SIZE = (4, 6)
CANVAS = Canvas(*SIZE)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures in two folders; each is flat and tells its number."""
    for number in range(12):
        _write(tmp_path / "data" / "AB"[number % 2] / f"{number:02}.png", number)
    return tmp_path / "data"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def decodes(monkeypatch):
    """The pictures that each build decodes."""
    asked = []

    def watched(paths, canvas, decoded=cache.decoded):
        asked.append([Path(path).name for path in paths])
        return decoded(paths, canvas)

    monkeypatch.setattr(cache, "decoded", watched)
    return asked


def _write(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (5, 5), level).save(path)


def _names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def _levels(cached):
    return [int(cached.images[row, 0, 0]) if row >= 0 else None for row in cached.rows]


def _numbers(names):
    return [int(Path(name).stem) for name in names]


def _file(home):
    (path,) = home.glob("*.images")
    return path


def test_each_picture_is_found_by_its_row_in_the_order_asked(folder, home):
    names = _names(folder)[::-1]
    cached = cached_images(folder, names, CANVAS, home=home)
    assert cached.images.shape == (12, *SIZE)
    assert cached.images.dtype == np.uint8
    assert cached.rows.dtype == np.int64
    assert _levels(cached) == _numbers(names)
    assert cached.broken == []


def test_the_images_are_a_map_that_cannot_be_written(folder, home):
    images = cached_images(folder, _names(folder), CANVAS, home=home).images
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 1
    assert not images.flags.owndata


def test_a_second_opening_decodes_nothing(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert _levels(cached_images(folder, _names(folder), CANVAS, home=home)) == _numbers(_names(folder))
    assert len(decodes) == 1


def test_an_opening_that_is_served_takes_no_lock_and_writes_nothing(folder, home):
    cached_images(folder, _names(folder), CANVAS, home=home)
    (_file(home).with_suffix(".lock")).unlink()
    before = _file(home).stat()
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert [path.name for path in home.iterdir()] == [_file(home).name]
    assert _file(home).stat() == before


def test_added_pictures_are_the_only_ones_decoded(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    _write(folder / "A" / "50.png", 50)
    _write(folder / "0" / "51.png", 51)
    names = _names(folder)
    assert _levels(cached_images(folder, names, CANVAS, home=home)) == _numbers(names)
    assert decodes[1:] == [["51.png", "50.png"]]


def test_a_changed_picture_is_decoded_again_also_at_the_same_size(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    changed = folder / "B" / "03.png"
    size = changed.stat().st_size
    _write(changed, 203)
    os.utime(changed, ns=(1, changed.stat().st_mtime_ns + 1))
    assert changed.stat().st_size == size
    assert 203 in _levels(cached_images(folder, _names(folder), CANVAS, home=home))
    assert decodes[1:] == [["03.png"]]


def test_a_picture_of_another_size_with_an_old_time_is_decoded_again(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    changed = folder / "B" / "03.png"
    before = changed.stat().st_mtime_ns
    Image.fromarray(np.full((50, 50), 203, np.uint8)).save(changed)
    os.utime(changed, ns=(before, before))
    assert 203 in _levels(cached_images(folder, _names(folder), CANVAS, home=home))
    assert decodes[1:] == [["03.png"]]


def test_a_subset_is_served_and_does_not_shrink_the_cache(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    some = cached_images(folder, ["B/05.png", "A/02.png", "B/05.png"], CANVAS, home=home)
    assert _levels(some) == [5, 2, 5]
    assert len(some.images) == 12
    _write(folder / "A" / "02.png", 99)
    os.utime(folder / "A" / "02.png", ns=(1, 1))
    assert _levels(cached_images(folder, ["A/02.png"], CANVAS, home=home)) == [99]
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert decodes[1:] == [["02.png"]]


def test_pictures_that_are_gone_or_changed_leave_the_cache_when_it_is_next_built(folder, home, decodes):
    cached_images(folder, _names(folder), CANVAS, home=home)
    (folder / "A" / "02.png").unlink()
    assert len(cached_images(folder, _names(folder), CANVAS, home=home).images) == 12
    os.utime(folder / "A" / "04.png", ns=(1, 1))
    _write(folder / "A" / "60.png", 60)
    cached = cached_images(folder, ["A/60.png"], CANVAS, home=home)
    assert len(cached.images) == 11
    assert sorted(cached.images[:, 0, 0]) == [0, 1, 3, 5, 6, 7, 8, 9, 10, 11, 60]


def test_a_missing_picture_is_an_error_that_says_what_to_do(folder, home):
    with pytest.raises(UserError, match=r"A/gone.png does not exist; if the pictures have moved, give --data.root and"):
        cached_images(folder, [*_names(folder), "A/gone.png"], CANVAS, home=home)


def test_broken_pictures_are_listed_and_have_no_row(folder, home, decodes):
    (folder / "A" / "02.png").write_bytes(b"")
    (folder / "B" / "07.png").write_bytes(b"text")
    for _ in range(2):
        cached = cached_images(folder, ["B/07.png", "A/00.png", "A/02.png"], CANVAS, home=home)
        assert _levels(cached) == [None, 0, None]
        assert [path for path, _ in cached.broken] == ["B/07.png", "A/02.png"]
        assert cached.broken[1][1] == "it is empty"
        assert cached.broken[0][1].startswith("it is none of PNG")
    assert len(decodes) == 1


def test_the_broken_stay_known_when_the_cache_grows_and_only_the_asked_are_told(folder, home, decodes):
    (folder / "B" / "07.png").write_bytes(b"")
    cached_images(folder, ["A/00.png", "B/07.png"], CANVAS, home=home)
    (folder / "A" / "00.png").unlink()  # the rows move
    assert cached_images(folder, ["A/02.png"], CANVAS, home=home).broken == []
    cached = cached_images(folder, ["A/02.png", "B/07.png"], CANVAS, home=home)
    assert (_levels(cached), cached.broken) == ([2, None], [("B/07.png", "it is empty")])
    assert decodes == [["00.png", "07.png"], ["02.png"]]


def test_a_repaired_picture_is_no_longer_broken(folder, home):
    (folder / "B" / "07.png").write_bytes(b"")
    cached_images(folder, _names(folder), CANVAS, home=home)
    _write(folder / "B" / "07.png", 7)
    cached = cached_images(folder, _names(folder), CANVAS, home=home)
    assert cached.broken == []
    assert _levels(cached) == _numbers(_names(folder))


def test_what_the_system_refused_is_not_remembered_as_broken(folder, home):
    (folder / "A" / "folder.png").mkdir()
    with pytest.raises(UserError, match="cannot be opened"):
        cached_images(folder, ["A/folder.png"], CANVAS, home=home)
    assert not list(home.glob("*.images"))
    assert not list(home.glob("*.partial"))


def test_each_folder_and_each_size_has_its_own_file(folder, home):
    cached_images(folder, _names(folder), CANVAS, home=home)
    cached_images(folder, _names(folder), Canvas(6, 4), home=home)
    cached_images(folder / "A", ["00.png"], CANVAS, home=home)
    assert len(list(home.glob("*.images"))) == 3


def test_a_relative_folder_and_a_link_to_it_are_the_same_folder(folder, home, monkeypatch, tmp_path):
    cached_images(folder, _names(folder), CANVAS, home=home)
    monkeypatch.chdir(folder.parent)
    (tmp_path / "link").symlink_to(folder)
    cached_images(Path("data"), _names(folder), CANVAS, home=home)
    cached_images(tmp_path / "link", _names(folder), CANVAS, home=home)
    assert len(list(home.glob("*.images"))) == 1


def test_nothing_asked_is_nothing_built(folder, home):
    cached = cached_images(folder, [], CANVAS, home=home)
    assert cached.images.shape == (0, *SIZE)
    assert len(cached.rows) == 0
    assert not home.exists()


def test_names_with_line_ends_and_bytes_that_are_no_unicode(folder, home):
    os.rename(folder / "A" / "02.png", os.fsencode(folder) + b"/A/\xff\n\xc3\xa4.png")
    names = [os.fsdecode(b"A/\xff\n\xc3\xa4.png"), "A/00.png"]
    for _ in range(2):
        assert _levels(cached_images(folder, names, CANVAS, home=home)) == [2, 0]


def test_more_pixels_than_one_block_and_more_pictures_than_one_chunk(tmp_path, home, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 100)
    for number in range(600):
        _write(tmp_path / "many" / f"{number:03}.png", number % 250)
    (tmp_path / "many" / "550.png").write_bytes(b"")
    names = _names(tmp_path / "many")
    cached_images(tmp_path / "many", names[50:], CANVAS, home=home)
    (tmp_path / "many" / "051.png").unlink()
    names.remove("051.png")
    for _ in range(2):
        cached = cached_images(tmp_path / "many", names, CANVAS, home=home)
        assert _levels(cached) == [None if number == 550 else number % 250 for number in _numbers(names)]
        assert cached.broken == [("550.png", "it is empty")]


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def test_a_flipped_byte_anywhere_is_noticed_and_the_file_is_built_again(folder, home, decodes, caplog):
    (folder / "B" / "07.png").write_bytes(b"")
    names = _names(folder)
    caplog.set_level(logging.INFO)
    cached_images(folder, names, CANVAS, home=home)
    good = _file(home).read_bytes()
    for position in range(0, len(good), 7):
        caplog.clear()
        _flip(_file(home), position)
        cached = cached_images(folder, names, CANVAS, home=home)
        assert [level or 0 for level in _levels(cached)] == [0 if n == 7 else n for n in _numbers(names)]
        assert _file(home).read_bytes() == good
        (first, second) = caplog.messages
        assert re.search(r"is built again: its (pixels are|record is|end is missing or) damaged|its format is", first)
        assert "12 pictures decoded, 0 kept" in second
    assert len(decodes) == 1 + len(range(0, len(good), 7))


@pytest.mark.parametrize("keep", [0, 1, 50, 300, -1])
def test_a_truncated_file_is_noticed(folder, home, keep):
    cached_images(folder, _names(folder), CANVAS, home=home)
    good = _file(home).read_bytes()
    _file(home).write_bytes(good[:keep])
    assert _levels(cached_images(folder, _names(folder), CANVAS, home=home)) == _numbers(_names(folder))
    assert _file(home).read_bytes() == good


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: b"no JSON", "its record is damaged"),
        (lambda text: b"[]", "its record is damaged"),
        (lambda text: b"{}", "its record is damaged"),
        (lambda text: text.replace(b'"A/02.png", ', b""), "its pixels and its record differ"),
        (lambda text: text.replace(f"Pillow {PIL.__version__}".encode(), b"Pillow 0.1"), "with Pillow 0.1"),
        (lambda text: text.replace(b"decoding 2 ", b"decoding 0 "), "it was made by decoding 0 "),
    ],
)
def test_a_record_that_is_whole_but_not_ours_is_told_and_replaced(folder, home, caplog, decodes, change, told):
    cached_images(folder, _names(folder), CANVAS, home=home)
    good = _file(home).read_bytes()
    pixels = 12 * SIZE[0] * SIZE[1]
    text = change(good[pixels : -cache._LAST_LENGTH])
    assert text != good[pixels : -cache._LAST_LENGTH]
    last = cache._LAST_LINE.format(cache.FORMAT, len(text), cache.hashlib.sha256(text).hexdigest())
    _file(home).write_bytes(good[:pixels] + text + last.encode())
    caplog.set_level(logging.INFO)
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert told in caplog.messages[0]
    assert _file(home).read_bytes() == good
    assert len(decodes) == 2


def test_another_format_is_told_and_replaced(folder, home, caplog, monkeypatch):
    cached_images(folder, _names(folder), CANVAS, home=home)
    monkeypatch.setattr(cache, "FORMAT", 2)
    caplog.set_level(logging.INFO)
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert "its format is 1, not 2" in caplog.messages[0]


def test_the_record_is_plain_json(folder, home):
    cached_images(folder, _names(folder), CANVAS, home=home)
    record = json.loads(_file(home).read_bytes()[12 * SIZE[0] * SIZE[1] : -cache._LAST_LENGTH])
    assert record["folder"] == str(folder.resolve())
    assert record["paths"] == _names(folder)


def test_a_build_is_logged_in_one_line(folder, home, caplog):
    caplog.set_level(logging.INFO)
    cached_images(folder, _names(folder), CANVAS, home=home)
    assert len(caplog.messages) == 1
    assert re.fullmatch(r"cache: 12 pictures decoded, 0 kept, in \d+\.\d s: .*\.images", caplog.messages[0])


def test_a_run_keeps_what_it_has_mapped_when_the_file_is_replaced(folder, home):
    first = cached_images(folder, _names(folder), CANVAS, home=home)
    inode = _file(home).stat().st_ino
    before = first.images.copy()
    for path in folder.rglob("*.png"):
        _write(path, 222)
        os.utime(path, ns=(1, 1))
    assert set(_levels(cached_images(folder, _names(folder), CANVAS, home=home))) == {222}
    assert _file(home).stat().st_ino != inode
    np.testing.assert_array_equal(first.images, before)


BUILD = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
logging.getLogger("PIL").setLevel(logging.WARNING)
from gfnet_pl.data import cache
from gfnet_pl.data.canvas import Canvas
{change}
folder = Path(sys.argv[1])
names = sorted(path.name for path in folder.iterdir())
print("ready", flush=True)
sys.stdin.readline()
cached = cache.cached_images(folder, names, Canvas(8, 8), home=Path(sys.argv[2]))
print("levels", sum(int(cached.images[row, 0, 0]) for row in cached.rows), flush=True)
"""


def _builder(folder, home, change=""):
    command = [sys.executable, "-c", BUILD.format(change=change), str(folder), str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def _end(process):
    with process:
        return process.communicate(timeout=60)[0]


@pytest.fixture
def many(tmp_path):
    for number in range(600):
        _write(tmp_path / "many" / f"{number:03}.png", number % 250)
    return tmp_path / "many"


TOTAL = sum(number % 250 for number in range(600))


def test_two_runs_that_want_it_at_once_build_it_once(many, home):
    runs = [_builder(many, home) for _ in range(3)]
    for run in runs:
        _go(run)
    told = [_end(run) for run in runs]
    assert all(f"levels {TOTAL}" in text for text in told)
    assert sum("pictures decoded" in text for text in told) == 1


SLOW = """
import time
def slow(paths, canvas, decoded=cache.decoded):
    for chunk in decoded(paths, canvas):
        yield chunk
        print("halfway", flush=True)
        time.sleep(60)
cache.decoded = slow
"""


def _half_built(many, home):
    run = _builder(many, home, SLOW)
    _go(run)
    assert run.stdout.readline() == "halfway\n"
    return run


def test_a_killed_build_leaves_nothing_that_is_read_and_the_next_one_clears_up(many, home):
    run = _half_built(many, home)
    (partial,) = home.glob("*.partial")
    inode = partial.stat().st_ino
    with partial.open("rb"):  # holds the inode, so that a new file has another
        run.kill()
        _end(run)
        assert partial.exists()
        assert not list(home.glob("*.images"))
        names = sorted(path.name for path in many.iterdir())
        cached_images(many, names, Canvas(8, 8), home=home)
        assert _file(home).stat().st_ino != inode  # a process that outlived the build could still write to that one
    assert not partial.exists()


def test_a_partial_file_of_a_build_that_goes_on_is_left_alone(many, home, caplog):
    run = _half_built(many, home)
    (partial,) = home.glob("*.partial")
    other = _builder(many, home)
    _go(other)
    assert other.stdout.readline().startswith("cache: waiting for another run that builds")
    assert partial.exists()
    run.kill()
    _end(run)
    assert f"levels {TOTAL}" in _end(other)


def test_the_old_file_is_served_while_a_new_one_is_built(many, home):
    names = sorted(path.name for path in many.iterdir())
    cached_images(many, names, Canvas(8, 8), home=home)
    _write(many / "new.png", 3)
    run = _half_built(many, home)
    assert len(cached_images(many, names, Canvas(8, 8), home=home).images) == 600
    run.kill()
    _end(run)


def test_a_build_that_is_interrupted_leaves_nothing_behind(folder, home, monkeypatch):
    def interrupted(paths, canvas, decoded=cache.decoded):
        yield from decoded(paths, canvas)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "decoded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_images(folder, _names(folder), CANVAS, home=home)
    assert [path.suffix for path in home.iterdir()] == [".lock"]
    monkeypatch.undo()
    assert _levels(cached_images(folder, _names(folder), CANVAS, home=home)) == _numbers(_names(folder))


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""


def test_a_disk_that_is_full_is_one_line_and_nothing_is_left(many, home):
    names = sorted(path.name for path in many.iterdir())
    cached_images(many, names[:100], Canvas(8, 8), home=home)
    before = _file(home).read_bytes()
    change = FULL + "import atexit\nsys.excepthook = lambda kind, error, _: print(kind.__name__, error, flush=True)"
    run = _builder(many, home, change)
    _go(run)
    (told,) = _end(run).splitlines()
    assert re.fullmatch(
        r"UserError .*\.images: the cache of decoded pictures cannot be written \(File too large\); "
        "set XDG_CACHE_HOME to a folder with more room",
        told,
    )
    assert _file(home).read_bytes() == before
    assert not list(home.glob("*.partial"))


def test_no_space_left_is_told_as_a_full_disk(folder, home, monkeypatch):
    def full(file, images):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "_write", full)
    with pytest.raises(UserError, match=r"\(No space left on device\); set XDG_CACHE_HOME to a folder with more room"):
        cached_images(folder, _names(folder), CANVAS, home=home)
    assert [path.suffix for path in home.iterdir()] == [".lock"]


def test_a_home_that_cannot_be_written_names_what_to_set(folder, tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file" / "home", Path("/proc/gfnet_pl")):
        with pytest.raises(
            UserError, match=r"cannot be written .*; set XDG_CACHE_HOME to a folder that can be written"
        ):
            cached_images(folder, _names(folder), CANVAS, home=home)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_home_serves_what_it_has(folder, home):
    cached_images(folder, _names(folder), CANVAS, home=home)
    home.chmod(0o500)
    try:
        cached_images(folder, _names(folder), CANVAS, home=home)
        with pytest.raises(UserError, match=r"\(Permission denied\); set XDG_CACHE_HOME"):
            cached_images(folder, _names(folder), Canvas(6, 4), home=home)
    finally:
        home.chmod(0o700)


@pytest.mark.parametrize(
    ("setting", "expected"), [("/somewhere", "/somewhere"), ("relative", "/me/.cache"), ("", "/me/.cache")]
)
def test_the_home_is_the_user_s_cache_folder(monkeypatch, setting, expected):
    monkeypatch.setenv("HOME", "/me")
    monkeypatch.setenv("XDG_CACHE_HOME", setting)
    assert cache_folder() == Path(expected, "gfnet_pl")


def test_the_default_home_is_used(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cached_images(folder, _names(folder), CANVAS)
    assert _file(tmp_path / "xdg" / "gfnet_pl" / "images")


def test_the_lock_is_free_again_afterwards(folder, home):
    cached_images(folder, _names(folder), CANVAS, home=home)
    with FileLock(_file(home).with_suffix(".lock"), blocking=False):
        pass
