"""What stands beside the code says the same as the code: README, versions, constraints, the public workflow."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from conftest import write_picture
from lightning.pytorch.cli import LightningCLI
from packaging.requirements import Requirement

import gfnet_pl
from gfnet_pl.cli import COMMANDS, HELP, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHOWN = [line.split("#")[0].strip() for line in re.findall(r"^    (\S.*)$", README, re.M)]
IN_TABLE = re.findall(r"^\| `(gfnet [^`]*)`", README, re.M)


def tree():
    """The README's tree: each path and whether it is a folder."""
    lines = README.split("## Where things are")[1].split("##")[0].splitlines()
    folder = ""
    for line in lines:
        if line.startswith("    ") and (name := line.split()[0]):
            inside = line.startswith("      ")
            folder = folder if inside else name
            yield (folder if inside else "") + name


def test_the_readme_s_tree_is_that_of_the_files():
    found = list(tree())
    for name in found:
        path = ROOT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
    package = ROOT / "src" / "gfnet_pl"
    there = {f"src/gfnet_pl/{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    there |= {f"src/gfnet_pl/{path.name}" for path in package.glob("*.py") if not path.name.startswith("__")}
    assert there <= set(found)


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) < 150
    for link in re.findall(r"\]\(([^)]+)\)", README.replace("\n", " ")):
        assert link.startswith("https://") or (ROOT / link).exists(), link


@pytest.mark.parametrize("line", [*(line for line in SHOWN if "gfnet " in line.split("#")[0][:20]), *IN_TABLE])
def test_the_readme_s_commands_are_understood(workplace, line, monkeypatch, capsys):
    monkeypatch.setattr("gfnet_pl.hand_signs.files.write_hand_signs", lambda out, **_: out)
    command, *options = shlex.split(line.removeprefix(".venv/bin/"))[1:]
    if "--help" in options:
        assert main([command, *options]) == 0
    elif command == "fit":
        if "--ckpt_path" in options:  # there is no run here
            at = options.index("--ckpt_path")
            del options[at : at + 2]
        for number in range(6 if "DIR" in options else 0):
            write_picture(workplace / "DIR" / "ab"[number % 2] / f"signer{number}.png", "ant", number)
        with pytest.raises(SystemExit) as stop:
            main(["fit", *options, "--print_config"])
        assert stop.value.code == 0
    elif command == "hand-signs":
        assert main([command, *options]) == 0
    else:
        assert main([command, *options]) == 2
        missing = {"audit": "DIR is not a folder", "sweep": "no file FILE"}.get(command, "no run in ./runs yet")
        assert missing in capsys.readouterr().err


def test_the_make_targets_that_are_shown_are_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for target in re.findall(r"^    make ([a-z-]+)", README + contributing, re.M):
        assert target in targets


def test_every_command_is_in_the_help_and_in_the_readme():
    for command in COMMANDS:
        assert f"gfnet {command}" in HELP
        assert f"`gfnet {command}" in README


def test_there_is_one_version(capsys):
    assert version("gfnet_pl") == gfnet_pl.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == gfnet_pl.__version__
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gfnet_pl {gfnet_pl.__version__}\n"
    command = [sys.executable, "-m", "gfnet_pl", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == f"gfnet_pl {version('gfnet_pl')}\n"
    )


def test_the_constraints_of_ci_are_within_the_bounds():
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for text in [*PYPROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]:
        requirement = Requirement(text)
        if requirement.name != "gfnet_pl":
            names = {name.lower().replace("_", "-"): number for name, number in pinned.items()}
            assert requirement.specifier.contains(names[requirement.name.lower()]), text


def test_the_lowest_versions_are_the_bounds_of_pyproject():
    command = [sys.executable, ROOT / ".ci" / "minimum.py", "torch==2.13.0"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "torch==2.13.0" in found
    assert "lightning==2.6.6" in found
    assert len(found) == len({line.split("==")[0] for line in found}) > 20


def test_the_bound_on_lightning_is_where_its_private_methods_may_change():
    (bound,) = [text for text in PYPROJECT["project"]["dependencies"] if text.startswith("lightning")]
    assert "<2.7" in bound
    for name in ("_parse_ckpt_path", "_prepare_subcommand_parser", "_parser", "_get"):  # overridden or called by ours
        assert hasattr(LightningCLI, name), name


def test_the_public_workflow_has_the_systems_and_pythons_that_it_is_for():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
