"""A disk that becomes full, or read-only, at any write of any command: one line, status 2, and nothing is lost by it.

Each command is run once to learn what it writes, and again with some kinds of write as the first that fails. `make
faults` takes all of them.
"""

import os
import shutil
from pathlib import Path

import pytest
from bad_disk import disk, kinds_in, what_is_wrong
from conftest import CLASSES, QUIET, TINY_NET, write_picture
from trees import medmnist

from gfnet_pl.cli import main

TAKEN = 3  # of a command's writes
OLD = Path(__file__).parent / "old_run"
FIT = ["fit", "--config=base.yaml", *TINY_NET, *QUIET, "--data.batch_size=8", "--model.warmup_epochs=1"]
COMMANDS = {
    "fit": [*FIT, "--data.root=pictures", "--trainer.max_epochs=2"],
    "packed": [*FIT, "--data.root=packed", "--data.colour=true", "--trainer.max_epochs=1"],
    "resume": ["fit", *QUIET, "--stage=base", "--ckpt_path=last.ckpt", "--trainer.max_epochs=3"],
    "test": ["test", *QUIET],
    "other data": ["test", *QUIET, "--data.root=pictures/Unseen"],
    "predict": ["predict", "pictures/Unseen", "--out=predictions.csv"],
    "report": ["report"],
    "card": ["export", "--card"],
    "audit": ["audit", "pictures", "--page=audit.html"],
    "hand-signs": ["hand-signs", "--out=signs", "--signers=2", "--frames=1", "--unseen-signers=1"],
}
CASES = [
    pytest.param(command, full, id=f"{command}-{'full' if full else 'read-only'}")
    for command in COMMANDS
    for full in (True, False)
    if full or command in ("fit", "test", "predict")
]


@pytest.fixture
def place(tmp_path, workplace, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or str(Path.home() / ".config" / "matplotlib"))

    def fresh(command):
        for path in (tmp_path / "cache", *workplace.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if command == "packed":
            medmnist(workplace / "packed", (16, 16, 3))
            return
        if command == "fit":
            for number, label in enumerate(CLASSES):
                for index in range(6):
                    write_picture(workplace / f"pictures/Train/{label}/{index}.png", label, 100 * number + index)
            return
        shutil.copytree(OLD / "pictures", "pictures")
        shutil.copytree(OLD / "version_0", "runs/base/version_0")
        if command == "predict":
            Path("predictions.csv").write_text("old\n")
        if command == "audit":
            Path("audit.html").write_text("old\n")

    return fresh


def kinds(command, root, *, full):
    """The kinds of writes of a command."""
    with disk(root, full=full) as healthy:
        assert main(COMMANDS[command]) == 0
    return kinds_in(healthy.events, full=full)


def some(events):
    step = max(1, len(events) // TAKEN)
    return events[step // 2 :: step]


@pytest.mark.parametrize(("command", "full"), CASES)
def test_whatever_cannot_be_written_is_one_line_and_nothing_is_lost(command, full, place, tmp_path, capsys):
    place(command)
    for event in some(kinds(command, tmp_path, full=full)):
        place(command)
        before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        capsys.readouterr()
        with disk(tmp_path, lambda number, name, event=event: name == event, full=full) as broken:
            status = main(COMMANDS[command])
        error = capsys.readouterr().err
        if not broken.failed:  # a thread of TensorBoard was slower than in the first run
            continue
        assert status == 2 or event.startswith(("remove", "rmdir", "utime")), event
        assert what_is_wrong(status, error, before, full=full) is None, event


@pytest.mark.skipif(os.name == "nt", reason="there, a current folder cannot be removed")
def test_in_a_folder_that_is_gone_a_command_says_so(workplace, capsys):
    gone = workplace / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for command in (["fit", *QUIET], ["hand-signs", "--out=signs"]):
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            "gfnet: error: the current folder is gone; change to another one"
        )
