"""The program that measures several seeds: its figures, its interval, and the line at the end of `make fit`."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent / "benchmarks"))
    return importlib.import_module("seeds")


@pytest.fixture
def run(workplace):
    """The old run, as the newest one of this folder; its unseen pictures get groups."""
    place = workplace / "runs/robust/version_0"
    shutil.copytree(HERE / "old_run/version_0", place)
    record = json.loads((place / "metrics.json").read_text())
    record["sets"]["unseen"]["groups"] = {"Ann": {"share": 0.9}, "Bob": {"share": 0.25}}
    (place / "metrics.json").write_text(json.dumps(record))
    return place


def test_the_interval_holds_one_more_value_95_times_in_100(program):
    low, high = program.expected([80.0, 82.0, 84.0])
    assert (low + high) / 2 == pytest.approx(82)
    assert (high - low) / 2 == pytest.approx(4.302653 * 2 * (4 / 3) ** 0.5)  # t of two degrees of freedom
    assert program.expected([99.0, 100.0])[1] == 100


def test_figures_are_those_of_the_run(program, run):
    sets = json.loads((run / "metrics.json").read_text())["sets"]
    found = program.figures(program.RunFolder(run))
    assert found["val"] == 100 * sets["val"]["accuracy"]["share"]
    assert found["worst"] == 25


def test_check_says_whether_a_run_is_as_expected(program, run, monkeypatch, tmp_path, capsys):
    found = program.figures(program.RunFolder(run))
    monkeypatch.setattr(program, "SEEDS", tmp_path / "seeds.json")
    spread = [{name: value + shift for name, value in found.items()} for shift in (-1, 1)]
    program.SEEDS.write_text(json.dumps(spread))
    program.main(["check"])
    assert capsys.readouterr().out.startswith("as expected: validation ")
    better, worse = (
        [found | {name: value}, found | {name: value + 0.1}] for name, value in (("unseen", 0.0), ("val", 99.0))
    )
    both = [one | {"val": other["val"]} for one, other in zip(better, worse, strict=True)]
    for rows, words in (
        (better, "better than expected: "),
        (worse, "worse than expected (see docs/performance.md): "),
        (both, "worse than expected (see docs/performance.md): "),
    ):
        program.SEEDS.write_text(json.dumps(rows))
        program.main(["check"])
        assert capsys.readouterr().out.startswith(words)


def test_collect_adds_each_seed_once_and_writes_the_tables(program, run, monkeypatch, tmp_path):
    documents = {"README": tmp_path / "README.md", "DOCUMENT": tmp_path / "performance.md"}
    for name, document in documents.items():
        document.write_text("above\n<!-- seeds -->\n<!-- end of seeds -->\n")
        monkeypatch.setattr(program, name, document)
    monkeypatch.setattr(program, "SEEDS", tmp_path / "seeds.json")
    for seed in ("1", "2"):
        place = tmp_path / f"work/32-true-{seed}/runs/robust/version_0"
        shutil.copytree(run, place)
        sessions = json.loads((place / "run.json").read_text())
        (place / "run.json").write_text(json.dumps([session | {"seed": seed} for session in sessions]))
    for _ in range(2):
        program.main(["collect", str(tmp_path / "work"), "--machine", "a laptop"])
    found = json.loads(program.SEEDS.read_text())
    assert [(row["machine"], row["precision"], row["seed"]) for row in found] == [
        ("a laptop", "32-true", "1"),
        ("a laptop", "32-true", "2"),
    ]
    for document in documents.values():
        assert "| a laptop, 32-true | 2 |" in document.read_text()


def test_the_tables_in_the_documents_are_those_of_the_seeds(program):
    kept = json.loads(program.SEEDS.read_text())
    for document in (program.README, program.DOCUMENT):
        assert program.summary(kept) in document.read_text()
