"""Memory, disk space and mapped files that are not there when they are needed: one line that says what would do."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from conftest import write_picture
from PIL import Image

from gfnet_pl.cli import main
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError
from gfnet_pl.training.classifier import GFNetClassifier


@pytest.mark.parametrize(("fits", "words"), [(5, "4 fit: --data.batch_size 4 --trainer.acc"), (0, "nor for one pic")])
def test_a_batch_that_does_not_fit_says_which_does(tiny, monkeypatch, capsys, fits, words):
    usual = GFNetClassifier.forward

    def forward(self, images):
        if len(images) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return usual(self, images)

    monkeypatch.setattr(GFNetClassifier, "forward", forward)
    assert main(tiny) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gfnet: error: there is not enough memory for a batch of 16 on cpu")
    assert words in line


def test_pictures_that_do_not_fit_a_device_say_so_and_not_that_a_batch_does_not(tiny, monkeypatch, capsys):
    def to(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(torch.Tensor, "to", to)
    assert main([*tiny, "--data.device_cache=true"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gfnet: error: data.device_cache: 0.00 GB of pictures do not fit into the memory of cpu; dr")


def test_a_cache_that_does_not_fit_the_disk_says_what_it_needs_before_it_begins(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", "ant", 0)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 10))
    with pytest.raises(
        UserError, match=r"the cache of 1 pictures takes 0\.00 GB, and 0\.00 GB are free there; make room"
    ):
        cached_images(tmp_path, ["a.png"], Canvas(16, 16))
    assert not list(tmp_path.rglob("*.images*"))


@pytest.mark.skipif(sys.platform == "win32", reason="there, a mapped file cannot be cut")
def test_a_mapped_file_that_is_cut_ends_in_one_line(tmp_path):
    write_picture(tmp_path / "a.png", "ant", 0)
    cut = """
import os, sys
from pathlib import Path
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
images = cached_images(Path(sys.argv[1]), ["a.png"], Canvas(16, 16)).images
os.truncate(next(Path(sys.argv[1]).rglob("*.images")), 0)
images.sum()
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", cut, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("gfnet: error: a file was cut, or its disk failed, while it was read: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="its limit of memory is Linux's")
def test_a_picture_that_needs_more_memory_than_there_is_is_broken_and_the_others_are_read(tmp_path):
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    write_picture(tmp_path / "a.png", "ant", 0)
    read = f"""
import resource
from pathlib import Path
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.decode import read_each
paths = [Path({str(tmp_path)!r}) / name for name in ("large.png", "a.png")]
read_each([paths[1]], Canvas(16, 16))
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**25,) * 2)
images, broken = read_each(paths, Canvas(16, 16))
print(broken, images[0].max(), images[1].max() > 0)
"""
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "[(0, 'there is not enough memory to decode it')] 0 True\n", done.stderr
