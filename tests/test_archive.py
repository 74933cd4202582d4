import os
import stat
import zipfile
from pathlib import Path

import pytest
from trees import LAYOUTS, manifest, write_classes, write_grey

from gfnet_pl.cli import main
from gfnet_pl.data import archive
from gfnet_pl.data.archive import opened
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import collect
from gfnet_pl.data.layouts import scan
from gfnet_pl.data.named import find_pictures
from gfnet_pl.errors import UserError


def zipped(folder, file):
    with zipfile.ZipFile(file, "w") as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder))
    return file


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_zip_of_any_layout_is_read_as_its_folder(tmp_path, layout):
    root = layout(tmp_path / "data")
    found = scan(opened(zipped(tmp_path / "data", tmp_path / "data.zip")))
    expected = scan(root)
    assert [p._replace(path=Path(p.path).name) for p in found.pictures] == [
        p._replace(path=Path(p.path).name) for p in expected.pictures
    ]
    assert all((found.folder / picture.path).read_bytes() for picture in found.pictures)


def test_it_is_unpacked_once_and_again_when_it_has_changed(tmp_path, caplog):
    caplog.set_level("INFO")
    file = zipped(write_classes(tmp_path / "data", ("ant", "bee"), 1), tmp_path / "data.zip")
    first = opened(file)
    assert opened(tmp_path / "data.zip") == first
    assert caplog.text.count("unpacked into") == 1
    write_grey(tmp_path / "data" / "ant" / "new.png")
    zipped(tmp_path / "data", file)
    assert opened(file) == first
    assert len(collect(str(file), canvas=Canvas(8, 8)).pictures) == 3
    assert sorted(os.listdir(first.parent)) == [first.name, f"{first.name}.lock"]


def test_predict_takes_the_pictures_of_a_zip_with_a_manifest_too(tmp_path):
    manifest(tmp_path / "data")
    found = find_pictures([str(zipped(tmp_path / "data", tmp_path / "data.zip"))])
    assert len(found) == 12
    assert all(path.suffix == ".png" for path in found)


def with_entry(file, name, *, attributes=0, content=b"x"):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = attributes << 16
    with zipfile.ZipFile(file, "a") as out:
        out.writestr(entry, content)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "ant/../../a.png", "C:/a.png", "..\\a.png"])
def test_a_name_that_leads_out_of_it_is_refused(tmp_path, name):
    file = zipped(write_classes(tmp_path / "data", ("ant",), 1), tmp_path / "data.zip")
    with_entry(file, name)
    with pytest.raises(UserError, match="leads out of it"):
        opened(file)
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_links_are_left_out_and_told(tmp_path, caplog):
    file = zipped(write_classes(tmp_path / "data", ("ant",), 1), tmp_path / "data.zip")
    with_entry(file, "ant/link.png", attributes=stat.S_IFLNK | 0o777, content=b"/etc/passwd")
    assert [path.name for path in find_pictures([str(file)])] == ["ant1.jpg"]
    assert "links in it are left out: 1, first ant/link.png" in caplog.text


def test_what_unpacks_to_far_more_than_pictures_is_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LEAST", 10_000)
    file = tmp_path / "data.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("ant/a.bmp", b"\0" * 1_000_000)
    with pytest.raises(UserError, match=r"would unpack from 1,\d\d\d to 1,000,000 bytes"):
        opened(file)
    assert not list((tmp_path / "cache").rglob("*.bmp"))


def cut(file):
    file.write_bytes(file.read_bytes()[:-30])


def flip(file):
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)


def rename(file):
    content = bytearray(file.read_bytes())
    place = content.rindex(b"PK\1\2")
    content[place + 9] |= 8  # the name is said to be UTF-8
    content[place + 46] = 0xBC
    file.write_bytes(content)


def encrypted(file):
    content = bytearray(file.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + at] |= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "is no .zip, or a damaged one"),
        (flip, "is no .zip, or a damaged one"),
        (rename, "is no .zip, or a damaged one"),
        (encrypted, "cannot be unpacked here .*password.*unpack it"),
        (Path.unlink, "cannot be read .No such file or directory"),
    ],
)
def test_one_that_cannot_be_unpacked_is_named_and_leaves_nothing(tmp_path, harm, message):
    file = tmp_path / "data.zip"
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("a.png", bytes(range(200)))
    harm(file)
    with pytest.raises(UserError, match=f"data.zip {message}"):
        opened(file)
    assert not list((tmp_path / "cache").rglob("*.png"))


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--data.root", "https://example.org/data.zip"],
        ["fit", "--data.root=s3://bucket/data"],
        ["predict", "https://example.org/a.png"],
        ["test", "--ckpt_path", "https://example.org/best.ckpt"],
        ["audit", "https://example.org/data"],
    ],
)
def test_a_url_is_refused_with_one_sentence(workplace, capsys, words):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is a URL, and gfnet downloads nothing" in line
