"""Which room may import which, and that only the run's own room knows how its files are called."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "gfnet_pl"
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")  # it names all, and loads none
GROUND = {"errors", "files", "help", "locks", "messages", "processes", "tables"}
DATA = {"data", "hand_signs"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "help": set(),
    "locks": {"errors", "files"},
    "messages": set(),
    "processes": {"errors"},
    "tables": set(),
    "model": {"errors"},
    "hand_signs": GROUND,
    "data": GROUND | {"hand_signs"},
    "evaluation": GROUND | {"model"},
    "run": GROUND | {"evaluation", "data", "model"},
    "audit": GROUND | DATA,
    "report": GROUND | DATA | {"run", "evaluation", "model"},
    "export": GROUND | DATA | {"run", "evaluation", "model"},
    "training": GROUND | DATA | {"run", "evaluation", "model"},
    "cli": GROUND | {"run", "training", "report", "export", "audit", "hand_signs"},
    "__main__": {"cli"},
}
WITHOUT_LIGHTNING = GROUND | {"run", "report", "export", "audit", "evaluation", "hand_signs", "model"}


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_room_imports_only_rooms_below_it(path):
    found = {name.split(".")[1] for name in imports(path) if name.startswith("gfnet_pl.")}
    assert found - {room(path)} <= MAY_IMPORT[room(path)]
    if room(path) in WITHOUT_LIGHTNING:
        assert not [name for name in imports(path) if name.split(".")[0] == "lightning"]


def texts(path):
    """The strings of a file that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    words = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in constants if id(node) not in words]


def test_no_file_of_a_run_is_named_outside_its_room():
    names = {text for text in texts(SOURCE / "run" / "folder.py") if text.endswith((".yaml", ".json", ".csv", ".npz"))}
    names |= {"best.ckpt", "last.ckpt", "report.html", "checkpoints"}
    assert len(names) >= 12
    for path in FILES:
        if room(path) != "run":
            named = [text for text in texts(path) for name in names if text.strip("/{} ").endswith(name)]
            assert not named, path
