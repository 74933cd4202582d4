import csv
from pathlib import Path

import pytest

import gfnet_pl
from gfnet_pl.files import growing, replacing
from gfnet_pl.tables import write_rows


@pytest.mark.parametrize(("mode", "content"), [("w", "a\r\nä\n"), ("wb", b"\x00\n")])
def test_a_file_is_replaced_by_exactly_what_is_written(tmp_path, mode, content):
    path = tmp_path / "file"
    path.write_bytes(b"old and longer than the new one")
    with replacing(path, mode) as file:
        file.write(content)
        assert path.read_bytes().startswith(b"old")
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, there):
    path = tmp_path / "file"
    if there:
        path.write_text("old")
    with pytest.raises(ValueError, match="half way"), replacing(path) as file:
        file.write("new")
        raise ValueError("half way")
    assert [(found, found.read_text()) for found in tmp_path.iterdir()] == ([(path, "old")] if there else [])


@pytest.mark.parametrize("kept", [True, False])
def test_of_a_file_that_grows_an_error_leaves_what_was_kept(tmp_path, kept):
    path = tmp_path / "file"
    with pytest.raises(ValueError, match="half way"), growing(path, over=True) as (file, keep):
        file.write("first\n")
        if kept:
            keep()
        file.write("sec")
        file.flush()
        raise ValueError("half way")
    part = [(tmp_path / "file.partial", "first\n")] if kept else []
    assert [(found, found.read_text()) for found in tmp_path.iterdir()] == part
    with growing(path, over=True) as (file, keep):
        file.write("whole\n")
    assert [(found, found.read_text()) for found in tmp_path.iterdir()] == [(path, "whole\n")]


def test_every_text_comes_back_from_a_csv_file(tmp_path):
    rows = [
        ("plain", "1"),
        ("li\nne", "retur\rn"),
        ("both\r\n", "\r"),
        ('quo"te', "com,ma"),
        ("", " "),
        ("\u2028", "\x0b"),
    ]
    with replacing(tmp_path / "a.csv") as file:
        write_rows(file, rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert [tuple(row) for row in csv.reader(file, strict=True)] == rows
    assert (tmp_path / "a.csv").read_bytes().startswith(b'plain,1\n"li\nne","retur\rn"\n')


def test_only_one_place_writes_csv():
    """Python's own writer leaves a carriage return bare, and the reader then ends the line there."""
    sources = Path(gfnet_pl.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "csv.writer(" in path.read_text("utf-8")] == ["tables.py"]
