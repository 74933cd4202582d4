"""What Windows, macOS and network file systems do otherwise, as far as it can be tried on Linux."""

import ast
import errno
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import filelock  # noqa: F401  (loaded before it could miss fcntl)
import numpy as np
import pytest
from PIL import Image

from gfnet_pl import files
from gfnet_pl.cli import main
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.errors import UserError
from gfnet_pl.locks import locked
from gfnet_pl.run.folder import new_run, run_of

SOURCE = Path(__file__).parents[1] / "src" / "gfnet_pl"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
POSIX = {
    os: "chown chroot fork forkpty getgid getloadavg getpgid getuid geteuid killpg mkfifo nice posix_fadvise pread "
    "pwrite register_at_fork sched_getaffinity sched_setaffinity sendfile setpgid setsid statvfs sysconf uname wait3",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause setitimer",
}
CANVAS = Canvas(4, 6)


# Names that only POSIX has


def test_nothing_is_used_that_only_posix_has_unless_it_is_asked_for_first():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not POSIX_MODULES & set(names), f"{path}, line {node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                for module, only in POSIX.items():
                    if node.value.id == module.__name__ and node.attr in only.split():
                        guard = f'hasattr({module.__name__}, "{node.attr}")'
                        assert guard in path.read_text(encoding="utf-8"), f"{path}, line {node.lineno}: {node.attr}"


def test_every_module_can_be_imported_and_a_net_trained_where_posix_is_missing(tiny, monkeypatch):
    modules = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in FILES]
    modules = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    for name in modules:  # so that other packages are loaded before
        importlib.import_module(name)
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as without:
        without.setattr(shutil, "disk_usage", lambda path: usage)  # it asks statvfs, or Windows
        for name in POSIX_MODULES:
            without.setitem(sys.modules, name, None)
        for attribute in POSIX[os].split():
            without.delattr(os, attribute, raising=False)
        assert main([*tiny, "--trainer.max_epochs=1"]) == 0
        for attribute in POSIX[signal].split():  # Lightning's fit has them, except on Windows
            without.delattr(signal, attribute, raising=False)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gfnet_pl"]:
            without.delitem(sys.modules, name)
        for name in modules:
            importlib.import_module(name)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gfnet_pl"]:
            del sys.modules[name]  # the context brings the others back


def test_text_files_are_utf_8_whatever_the_system_takes():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            owner = getattr(getattr(called, "value", None), "id", "")
            if name not in ("open", "read_text", "write_text") or owner in ("os", "Image", "tarfile"):
                continue
            constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            is_binary = name == "open" and any(isinstance(value, str) and "b" in value for value in constants)
            known = {keyword.arg for keyword in node.keywords} & {"encoding", None}  # None: **options
            is_entry = name == "open" and owner in ("file", "archive")  # of a zipfile
            assert is_binary or known or is_entry, f"{path}, line {node.lineno}: {name} without an encoding"


# File systems without locks


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(4):
        Image.new("L", (5, 5), number).save(tmp_path / "data" / f"{number}.png")
    return tmp_path / "data"


def cached(folder, home):
    return cached_images(folder, sorted(path.name for path in folder.iterdir()), CANVAS, home=home)


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "EPERM", "EINVAL", "EACCES"])
def test_without_locks_one_line_says_so_and_the_cache_is_built(folder, tmp_path, monkeypatch, caplog, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        found = cached(folder, tmp_path / "home")
        assert found.images[found.rows][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert [line for line in caplog.messages if "lock" in line] == [
        f"{tmp_path / 'home'}: its file system has no locks: runs that begin at once do the same work"
    ]
    assert {path.suffix for path in (tmp_path / "home").iterdir()} <= {".images", ".lock"}
    with locked(tmp_path / "home" / "x") as one, locked(tmp_path / "home" / "x") as other:
        assert one != other  # each writes its own


def test_another_failure_of_a_lock_is_an_error(folder, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UserError, match="the cache of decoded pictures cannot be written"):
        cached(folder, tmp_path / "home")


# Windows does not let a mapped file be replaced


@pytest.fixture
def windows_files(monkeypatch):
    """os.replace and unlink as they are there: no file that this process has mapped."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("it does not tell which files are mapped")
    replace, unlink = os.replace, Path.unlink

    def check(*paths):
        mapped = maps.read_text(encoding="utf-8")
        for path in paths:
            if f" {os.path.realpath(path)}\n" in mapped:
                raise PermissionError(errno.EACCES, "mapped", str(path))

    def checked_replace(source, target):
        check(source, target)
        replace(source, target)

    def checked_unlink(path, missing_ok=False):
        check(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(files.os, "replace", checked_replace)
    monkeypatch.setattr(Path, "unlink", checked_unlink)


def test_a_cache_that_another_run_has_mapped_gets_another_name_until_it_is_free(folder, tmp_path, windows_files):
    def add(number):
        Image.new("L", (5, 5), number).save(folder / f"{number}.png")
        found = cached(folder, tmp_path / "home")
        assert found.images[found.rows][:, 0, 0].tolist() == list(range(number + 1))
        return found, [path.name.partition(".")[2] for path in sorted((tmp_path / "home").glob("*.images"))]

    first, names = add(4)
    assert names == ["images"]
    second, names = add(5)
    assert names == ["2.images", "images"]
    assert first.images[first.rows][:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    again = cached(folder, tmp_path / "home")
    np.testing.assert_array_equal(again.images[again.rows], second.images[second.rows])
    del first, second, again
    third, names = add(6)
    assert names == ["images"]
    del third
    _, names = add(7)  # nothing of its own is mapped when the file is replaced
    assert names == ["images"]


# Names


@pytest.mark.parametrize("stage", ["nul", "CON", "com1", "aux.txt", "a."])
def test_no_run_has_a_name_that_windows_has_not(stage):
    with pytest.raises(UserError, match="cannot name a folder"):
        new_run(stage)


def test_a_checkpoint_on_another_drive_is_found(tmp_path, monkeypatch):
    def other_drive(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    (tmp_path / "splits.csv").write_text("path,label,split,group\n", encoding="utf-8")
    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert run_of(tmp_path / "checkpoints" / "best.ckpt").path == tmp_path
