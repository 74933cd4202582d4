import errno
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from gfnet_pl.data.datamodule import ImageDataModule
from gfnet_pl.errors import UserError
from gfnet_pl.hand_signs import drawing, files, poses
from gfnet_pl.hand_signs.files import CLASSES, hand_signs_root, render, write_hand_signs

SMALL = {"signers": 1, "frames": 1, "unseen_signers": 1, "progress": False}
MANY = """
from pathlib import Path
from gfnet_pl.hand_signs.files import write_hand_signs
write_hand_signs(Path("signs"), signers=500, processes=2, progress=False)
"""
FIRST, SECOND = "signer000_frame00.png", "signer001_frame00.png"  # one by each of two workers
# Means over 24 x 24 pixels of render(label, signer=signer, frame=frame), row by row.
BLOCKS = {
    ("A", 0, 0): [96.2, 92.8, 95.1, 69.6, 73.2, 110.3, 128.7, 83.7, 64.5, 123.5, 142.5, 95.8, 73.2, 106.5, 124.0, 94.3],
    ("H", 1, 3): [
        129.1,
        132.7,
        133.2,
        138.1,
        106.1,
        94.3,
        98.1,
        177.5,
        135.1,
        116.0,
        92.2,
        93.5,
        136.6,
        138.0,
        142.7,
        155.6,
    ],
    ("Q", 63, 7): [
        118.2,
        148.9,
        160.0,
        181.3,
        139.0,
        160.9,
        154.5,
        148.2,
        162.6,
        151.2,
        149.4,
        158.6,
        179.2,
        154.1,
        157.7,
        168.4,
    ],
    ("Nothing", 70, 2): [
        178.7,
        179.1,
        179.1,
        180.7,
        177.9,
        179.1,
        180.0,
        181.0,
        170.9,
        165.6,
        174.6,
        174.9,
        163.7,
        152.1,
        168.8,
        168.8,
    ],
    ("Space", 5, 200): [
        112.9,
        136.8,
        154.1,
        112.8,
        113.6,
        167.3,
        188.9,
        121.8,
        114.0,
        161.1,
        140.9,
        123.9,
        114.9,
        159.2,
        133.7,
        129.0,
    ],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "signs"
    return write_hand_signs(out, signers=3, frames=2, unseen_signers=2, processes=2, progress=False)


def start_many(folder):
    """A real run of many signers that is well under way."""
    (folder / "many.py").write_text(MANY)
    run = subprocess.Popen(
        [sys.executable, "many.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    end = time.monotonic() + 15
    while len({p.name for p in folder.glob(".*partial*/*/*/signer*.png")} & {FIRST, SECOND}) < 2:
        if run.poll() is not None or time.monotonic() > end:
            run.kill()
            pytest.fail(f"no run under way: {run.communicate(timeout=60)}")
        time.sleep(0.02)
    return run


def names(root, split):
    return {(p.parent.name, *map(int, re.findall(r"\d+", p.stem))) for p in (root / split).glob("*/*.png")}


def test_layout_has_every_class_signer_and_frame(root):
    assert sorted(p.name for p in root.iterdir()) == ["Test", "Train", "Unseen", "hand_signs.json"]
    assert names(root, "Train") == set(itertools.product(CLASSES, range(3), range(2)))
    assert names(root, "Unseen") == set(itertools.product(CLASSES, (3, 4), range(2)))
    assert len(CLASSES) == 28
    assert len(names(root, "Test")) == 112
    assert all(len(list((root / "Test" / label).glob("signer*_frame*.png"))) == 4 for label in CLASSES)
    record = json.loads((root / "hand_signs.json").read_text())
    assert record["counts"] == {"Train": 28 * 3 * 2, "Test": 112, "Unseen": 28 * 2 * 2}
    assert "synthetic" in record["about"].lower()


def test_unseen_signers_are_nowhere_else_and_test_frames_come_after_training(root):
    train, test, unseen = (names(root, split) for split in ("Train", "Test", "Unseen"))
    assert {n[1] for n in unseen}.isdisjoint({n[1] for n in train | test})
    assert {n[1] for n in test} <= {n[1] for n in train}
    assert min(n[2] for n in test) > max(n[2] for n in train)


def test_files_are_grey_96_and_hold_what_render_draws(root):
    for label, signer, frame in [("A", 0, 1), ("Q", 4, 0), ("Nothing", 2, 1)]:
        split = "Unseen" if signer > 2 else "Train"
        with Image.open(root / split / label / f"signer{signer:03d}_frame{frame:02d}.png") as image:
            assert (image.mode, image.size) == ("L", (96, 96))
            assert np.array_equal(np.asarray(image), render(label, signer=signer, frame=frame))


def test_every_number_of_processes_gives_the_same_pictures(tmp_path):
    digests = set()
    for processes in (1, 2, 3):
        out = write_hand_signs(tmp_path / str(processes), **SMALL, seed=5, processes=processes)
        lines = ""
        for path in sorted(out.glob("*/*/*.png"), key=lambda p: p.relative_to(out).as_posix()):
            with Image.open(path) as image:
                lines += (
                    f"{path.relative_to(out).as_posix()} {hashlib.sha256(np.asarray(image).tobytes()).hexdigest()}\n"
                )
        digest = hashlib.sha256(lines.encode()).hexdigest()
        assert json.loads((out / "hand_signs.json").read_text())["sha256"] == digest
        digests.add(digest)
    assert len(digests) == 1


def test_render_is_a_pure_function_of_its_arguments():
    base = {"signer": 3, "frame": 4, "seed": 1}
    first = render("K", **base)
    np.random.seed(0)
    for label in ("A", "Nothing"):
        render(label, signer=9, frame=0)
    drawing._signer.cache_clear()
    assert np.array_equal(first, render("K", **base))
    for other in ({"signer": 4}, {"frame": 5}, {"seed": 2}):
        assert not np.array_equal(first, render("K", **base | other))


def test_render_takes_other_sizes_and_names_bad_arguments():
    small, large = render("L", signer=3, frame=0, size=32), render("L", signer=3, frame=0, size=96)
    assert small.shape == (32, 32) and small.dtype == np.uint8
    assert np.abs(large.reshape(32, 3, 32, 3).mean((1, 3)) - small).mean() < 6  # the same scene
    for arguments in ({"label": "a"}, {"signer": -1}, {"frame": -1}, {"seed": -1}, {"size": 40}, {"size": 0}):
        with pytest.raises(ValueError, match=r"label|signer|size"):
            render(**{"label": "A", "signer": 0, "frame": 0} | arguments)


def blocks(label, signer, frame):
    return render(label, signer=signer, frame=frame).reshape(4, 24, 4, 24).mean((1, 3))


@pytest.mark.parametrize(("label", "signer", "frame"), BLOCKS)
def test_pictures_are_those_of_the_published_format(label, signer, frame):
    """If this fails the data set has changed: its format number must, too."""
    expected = np.array(BLOCKS[label, signer, frame]).reshape(4, 4)
    assert np.abs(blocks(label, signer, frame) - expected).max() <= 1
    assert files.VERSIONS[0] == 1


def test_grain_is_fresh_in_every_frame():
    nothing = [render("Nothing", signer=1, frame=frame).astype(float) for frame in range(3)]
    fine = [image - np.roll(image, 1, 1) for image in nothing]  # the background is smooth, the grain is not
    assert np.std(fine[0]) > 1
    for a, b in itertools.combinations(fine, 2):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2


def test_neighbouring_frames_are_nearer_than_other_classes_of_the_signer():
    for signer in (0, 1, 2):
        now, later = (
            np.stack([render(label, signer=signer, frame=f).astype(float) for label in CLASSES]) for f in (0, 1)
        )
        distance = np.abs(now[:, None] - later[None]).mean((2, 3))
        assert (distance.argmin(1) == np.arange(28)).all()


def test_every_class_has_its_own_pose():
    who = drawing._signer(0, 0, 96)
    still = itertools.repeat(0.0)  # no drift, which would tell the classes apart by itself
    drawn = {k: drawing._over(who.background[:192, :192], who, p, still) for k, p in poses.POSES.items()}
    for (a, image), (b, other) in itertools.combinations(drawn.items(), 2):
        assert (np.abs(image - other) > 0.02).mean() > 0.004, f"{a} looks like {b}"


def test_about_one_signer_in_seven_is_left_handed():
    left = np.mean([drawing._signer(0, number, 16).left_handed for number in range(400)])
    assert 0.10 < left < 0.20


def test_importing_the_data_set_does_not_import_torch():
    code = "import sys, gfnet_pl.hand_signs.files; print([m for m in ('torch', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_killed_run_leaves_nothing_to_trust_and_a_later_run_cleans_up(tmp_path):
    run = start_many(tmp_path)
    run.kill()
    run.communicate(timeout=60)  # ends only when the workers, which share the pipe, have ended too
    (left,) = tmp_path.glob(".*partial*")
    assert not (tmp_path / "signs").exists() and not (left / "hand_signs.json").exists()
    out = write_hand_signs(tmp_path / "first", **SMALL, processes=1)
    assert left.exists()  # young: it might be another run at work
    os.utime(left, (time.time() - 3700,) * 2)
    out = write_hand_signs(tmp_path / "signs", **SMALL, processes=1)
    assert not left.exists() and len(list(out.glob("*/*/*.png"))) == 168


def test_interrupt_ends_the_workers_and_removes_the_partial_folder(tmp_path):
    run = start_many(tmp_path)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, errors = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGINT
    assert errors.count("Traceback") <= 1, errors  # the workers are silent
    assert [p.name for p in tmp_path.iterdir()] == ["many.py"]


def test_full_disk_leaves_nothing_and_is_a_user_error(tmp_path, monkeypatch):
    save, saved = Image.Image.save, []

    def fill_up(image, path, **options):
        if len(saved) == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        saved.append(path)
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", fill_up)
    with pytest.raises(UserError, match="disk is full") as caught:
        write_hand_signs(tmp_path / "signs", **SMALL, processes=1)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert len(saved) == 20 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_unwritable_place_is_a_user_error_that_names_it(tmp_path, processes):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "file"))):
        write_hand_signs(tmp_path / "file" / "signs", **SMALL, processes=processes)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_error_in_a_worker_process_leaves_nothing(tmp_path, monkeypatch):
    rendered = files._rendered

    def without_a_class(folder, *rest):
        (folder / "Train" / "Q").rmdir()  # the workers cannot write here
        return rendered(folder, *rest)

    monkeypatch.setattr(files, "_rendered", without_a_class)
    with pytest.raises(UserError, match="cannot write"):
        write_hand_signs(tmp_path / "signs", **SMALL, processes=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_written_is_known_to_be_synthetic_and_by_whom(tmp_path):
    root = write_hand_signs(tmp_path / "signs", signers=2, frames=2, unseen_signers=1)
    data = ImageDataModule(str(root), image_size=16, holdout_per_class=0)
    data.prepare_data()
    data.setup("fit")
    assert data.source.startswith("embedded data: synthetic")
    assert {picture.group for picture in data.pictures if picture.split == "train"} == {"signer000", "signer001"}
    assert len({picture.group for picture in data.pictures if picture.split == "unseen"}) == 1
    (root / "hand_signs.json").unlink()
    assert data.source == str(root)


@pytest.mark.parametrize("content", [{}, {"notes.txt": "mine"}, {"hand_signs.json": "{}"}, {"hand_signs.json": "[1"}])
def test_foreign_folder_is_not_touched(tmp_path, content):
    out = tmp_path / "signs"
    out.mkdir()
    for name, text in content.items():
        (out / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(str(out))):
        write_hand_signs(out, **SMALL, processes=1)
    assert {p.name: p.read_text() for p in out.iterdir()} == content
    assert list(tmp_path.iterdir()) == [out]


def test_existing_data_set_is_reused_only_with_the_same_settings_and_whole(tmp_path, monkeypatch):
    out = write_hand_signs(tmp_path / "signs", **SMALL, processes=1)
    before = (out / "hand_signs.json").stat().st_mtime_ns
    monkeypatch.setattr(files, "_fill", lambda *arguments: pytest.fail("rendered again"))
    assert write_hand_signs(out, **SMALL) == out
    for other in ({"signers": 2}, {"frames": 2}, {"unseen_signers": 2}, {"seed": 1}):
        with pytest.raises(UserError, match="other settings"):
            write_hand_signs(out, **SMALL | other)
    next(out.glob("Train/A/*.png")).unlink()
    with pytest.raises(UserError, match="167 of its 168"):
        write_hand_signs(out, **SMALL)
    assert (out / "hand_signs.json").stat().st_mtime_ns == before


def test_two_runs_at_once_both_end_well(tmp_path, monkeypatch):
    fill, both = files._fill, threading.Barrier(2, timeout=20)

    def fill_together(*arguments):
        fill(*arguments)
        both.wait()

    monkeypatch.setattr(files, "_fill", fill_together)
    results = []
    runs = [
        threading.Thread(target=lambda: results.append(write_hand_signs(tmp_path / "signs", **SMALL, processes=1)))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert results == [tmp_path / "signs"] * 2
    assert list(tmp_path.iterdir()) == [tmp_path / "signs"]
    assert len(list(tmp_path.glob("signs/*/*/*.png"))) == 168


@pytest.mark.parametrize("bad", [{"signers": 0}, {"frames": 0}, {"unseen_signers": 0}, {"seed": -1}, {"processes": 0}])
def test_numbers_out_of_range_are_user_errors(tmp_path, bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        write_hand_signs(tmp_path / "signs", **SMALL | bad)
    assert list(tmp_path.iterdir()) == []


def test_default_root_is_made_once_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = {"signers": 1, "frames": 1, "unseen_signers": 1}
    made = hand_signs_root(**settings)
    assert made.parent == tmp_path / "gfnet_pl" and made.name.startswith("hand-signs-v1-")
    monkeypatch.setattr(files, "_fill", lambda *arguments: pytest.fail("rendered again"))
    assert hand_signs_root(**settings) == made
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = []
    monkeypatch.setattr(files, "write_hand_signs", lambda out, **_: found.append(out))
    hand_signs_root(**settings, seed=1)
    assert found[0].parent == tmp_path / "home" / ".cache" / "gfnet_pl" and found[0].name != made.name
