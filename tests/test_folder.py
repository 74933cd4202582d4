"""Which run is the newest, and which names a stage may have."""

import json
import os
from pathlib import Path

import pytest

from gfnet_pl.errors import UserError
from gfnet_pl.run.folder import all_runs, find_checkpoint, new_run, newest_run


def run(name: str, *, record: object = None, last: float | None = None) -> None:
    folder = Path("runs") / name
    (folder / "checkpoints").mkdir(parents=True)
    if record is not None:
        (folder / "run.json").write_text(record if isinstance(record, str) else json.dumps(record))
    if last is not None:
        path = folder / "checkpoints" / "last.ckpt"
        path.touch()
        os.utime(path, (last, last))


def started(*times: str) -> list[dict[str, str]]:
    return [{"started": f"2026-11-{time}+00:00"} for time in times]


def test_the_newest_run_is_the_one_that_was_trained_last_by_its_record_and_not_by_file_times(workplace):
    run("a/version_0", record=started("25T10:00:00"), last=9e9)  # copied later
    run("a/version_1", record=started("25T11:00:00.500"), last=0)
    run("b/version_0", record=started("25T11:00:00.400"), last=5)
    run("c/version_0", record=started("20T00:00:00", "25T12:00:00"), last=0)  # resumed
    run("d/version_0", record="not JSON", last=1)
    run("e/version_0", last=2)  # no record at all
    run("f/version_0")  # no run
    names = [found.name for found in all_runs()]
    assert names == [f"{name}/version_{n}" for name, n in (("c", 0), ("a", 1), ("b", 0), ("a", 0), ("e", 0), ("d", 0))]
    run("g/version_0", record=started("25T12:00:01"))  # killed before its first checkpoint
    assert newest_run().name == "g/version_0"
    with pytest.raises(UserError, match="runs/g/version_0 has no checkpoint"):
        find_checkpoint("last.ckpt")
    Path("runs/g/version_0/checkpoints/last.ckpt").touch()
    assert find_checkpoint("last.ckpt") == Path("runs/g/version_0/checkpoints/last.ckpt")
    with pytest.raises(UserError, match=r"has no best.ckpt; try --ckpt_path last.ckpt"):
        find_checkpoint("best.ckpt")


@pytest.mark.parametrize("stage", ["exp/one", ".", "..", "", "../x", "-x", " x", "x ", "x\n", "a\\b", "a:b", "x" * 200])
def test_a_stage_that_names_no_folder_in_runs_is_refused(stage):
    with pytest.raises(UserError, match="cannot name a folder below runs"):
        new_run(stage)


def test_a_new_run_has_the_next_number_of_its_stage(workplace):
    for stage in ("base", "polish-2", "größer", "1", "a b", "lr=1e-3"):
        assert new_run(stage).path == Path("runs") / stage / "version_0"
    for name in ("version_2", "version_10", "version_x"):
        (Path("runs/base") / name).mkdir(parents=True)
    assert new_run("base").path == Path("runs/base/version_11")
