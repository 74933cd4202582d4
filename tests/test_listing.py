"""`gfnet runs`."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gfnet_pl.cli import main
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.listing import list_runs, table
from gfnet_pl.run.record import end_session

OLD = Path(__file__).parent / "old_run" / "version_0"


@pytest.fixture
def old_run(workplace):
    """A copy of a run of version 0.1.0, which did not say how it ended."""
    folder = Path("runs/base/version_0")
    shutil.copytree(OLD, folder)
    return RunFolder(folder)


def cells(capsys):
    assert main(["runs"]) == 0
    headings, *rows = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    names = [heading.strip() for heading in headings if heading]
    return [dict(zip(names, [cell.strip() for cell in row if cell], strict=True)) for row in rows]


def test_runs_are_listed_with_state_epochs_and_accuracies(tiny, capsys, monkeypatch):
    assert main(["runs"]) == 2
    assert "no run in ./runs yet" in capsys.readouterr().err
    assert main([*tiny, "--stage=one"]) == 0
    assert main(["test"]) == 0
    assert main([*tiny, "--stage=two", "--trainer.max_epochs=9", "--trainer.max_time=00:00:00:00"]) == 2
    monkeypatch.setattr("gfnet_pl.training.dashboard.Charts.on_train_epoch_end", lambda *_: 1 / 0)
    assert main([*tiny, "--stage=three"]) == 1
    capsys.readouterr()
    three, two, one = cells(capsys)
    assert [run["run"] for run in (one, two, three)] == [f"{name}/version_0" for name in ("one", "two", "three")]
    assert [run["state"] for run in (one, two, three)] == ["finished", "stopped", "failed"]
    assert one["epochs"] == "2/2"
    assert two["epochs"].endswith("/9")
    metrics = Path("runs/one/version_0/metrics.json")
    tested = json.loads(metrics.read_text())
    for split in ("val", "unseen"):
        assert one[split] == f"{100 * tested['sets'][split]['accuracy']['share']:.1f} %"
    assert two["unseen"] == "-"
    tested["sets"]["val"]["accuracy"]["share"] = 0.125  # as with more views than in training
    metrics.write_text(json.dumps(tested))
    assert cells(capsys)[2]["val"] == "12.5 %"


def test_a_run_of_an_older_version_is_listed_by_what_it_left(old_run):
    (run,) = list_runs()
    assert (run.epochs, run.max_epochs, run.state, run.data) == (2, 2, "finished", "pictures")
    sets = json.loads(old_run.metrics.read_text())["sets"]
    assert run.unseen == sets["unseen"]["accuracy"]["share"]
    old_run.checkpoint("best.ckpt").write_bytes(b"trained again")
    assert list_runs()[0].unseen is None
    old_run.config.write_text(old_run.config.read_text().replace("  max_epochs: 2", "  max_epochs: 3"))
    assert list_runs()[0].state == "stopped"


@pytest.mark.skipif(os.name != "posix", reason="processes are looked for on POSIX only")
def test_a_run_whose_process_lives_is_running(old_run):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process, state in ((os.getpid(), "running"), (ended.pid, "finished")):
        end_session(old_run, {"process": f"{platform.node()}:{process}"})
        assert list_runs()[0].state == state
    end_session(old_run, {"process": f"elsewhere:{os.getpid()}"})
    assert list_runs()[0].state == "finished"


def test_a_narrow_terminal_shortens_the_name_of_the_data(old_run):
    end_session(old_run, {"data": "/home/someone/" + 20 * "pictures/" + "asl"})
    (run,) = list_runs()
    _, line = table([run], width=79).splitlines()
    assert len(line) <= 79
    assert "…" in line
    assert "pictures/asl  " in line
    assert line.endswith("finished")
    assert run.data in table([run])


def test_the_list_needs_neither_torch_nor_lightning(old_run):
    code = (
        "import sys\nfrom gfnet_pl.cli import main\nassert main(['runs']) == 0\n"
        "assert not {'torch', 'lightning'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
