"""The notebooks run, hold no code of their own, and their rendered copies in docs/notebooks/ say what they say.

After a change to a notebook, or to what it shows, render them again: the command stands at the top of each copy.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from conftest import CLASSES, write_picture
from nbclient import NotebookClient

import gfnet_pl

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
RENDERED = REPOSITORY / "docs" / "notebooks"
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
copied = pytest.mark.parametrize("file", NOTEBOOKS[1:], ids=lambda file: file.stem)  # the quick start is to be run


def read(file):
    return nbformat.read(file, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_are_here_and_the_quick_start_has_five_cells():
    assert [file.name[:2] for file in NOTEBOOKS] == ["00", "01", "02", "03"]
    assert len(code_cells(read(NOTEBOOKS[0]))) == 5


@by_name
def test_a_notebook_is_stored_clean(file):
    notebook = read(file)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert set(notebook.metadata) == {"kernelspec"} and notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not cell.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None


@by_name
def test_a_notebook_defines_nothing(file):
    defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    for cell in code_cells(read(file)):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, defining)], cell.source


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_uses_the_public_names_and_functions_of_arrays(file):
    nodes = [node for cell in code_cells(read(file)) for node in ast.walk(ast.parse(cell.source))]
    assert not [node for node in nodes if isinstance(node, ast.Import) and "gfnet_pl" in node.names[0].name]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("gfnet_pl"):
            assert node.module == "gfnet_pl" or node.module.startswith("gfnet_pl.evaluation."), node.module
            assert node.module != "gfnet_pl" or {name.name for name in node.names} <= set(gfnet_pl.__all__)


SHORT = (  # fewer people and steps: the rendered copies show the whole
    (r"(?<=epochs)( ?= ?)(20|5)\b", r"\g<1>1"),
    (r"(?<=--signers)(=|\", \")24\b", r"\g<1>8"),
    (r"(?<=--unseen-signers)(=|\", \")6\b", r"\g<1>3"),
    (r"\bsigner024\b", "signer008"),
    (r"\"--trainer.devices=1\"", r'\g<0>, "--trainer.limit_train_batches=10"'),
)


def test_the_notebooks_run_one_after_the_other(tmp_path, monkeypatch):
    own = tmp_path / "my pictures"  # for the quick start; the others write their own
    for number, label in enumerate(CLASSES):
        for index in range(12):
            write_picture(own / label / f"{index}.png", label, 100 * number + index)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("GFNET_PICTURES", str(own))
    monkeypatch.setenv("GFNET_NOTEBOOKS", str(tmp_path / "work"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's own start-up files
    monkeypatch.delenv("MPLBACKEND", raising=False)  # another one than the kernel's would show no picture
    client = NotebookClient(read(NOTEBOOKS[0]), timeout=1200, resources={"metadata": {"path": tmp_path}})
    # One kernel for all, which needs seconds to import everything; each finds no name of the one before. UMAP, which
    # compiles itself for 15 seconds, draws no map, as in the other tests.
    flat = "import sys\nfrom gfnet_pl.evaluation import embedding\nembedding.NEIGHBOURS = sys.maxsize"
    reset = nbformat.v4.new_code_cell(f"{flat}\n%reset -f\nimport os\nos.chdir({str(tmp_path)!r})\ndel os")
    changed = dict.fromkeys(SHORT, 0)
    with client.setup_kernel():
        for file in NOTEBOOKS:
            client.nb = read(file)
            client.nb.cells.insert(0, reset)
            for index, cell in enumerate(client.nb.cells):
                for short in SHORT:
                    cell.source, times = re.subn(*short, cell.source)
                    changed[short] += times
                client.execute_cell(cell, index)
            for cell in code_cells(client.nb):
                outputs = [output for output in cell.outputs if "image/png" in output.get("data", {})]
                assert len(outputs) == cell.source.count("plt.show()"), cell.source
                told = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
                assert "Warning" not in told, told
    assert all(changed.values()), changed
    for stage in ("auto",):
        assert (tmp_path / "work" / "runs" / stage / "version_0" / "report.html").is_file()


@copied
def test_the_rendered_copy_has_the_cells_of_the_notebook(file):
    rest = (RENDERED / file.with_suffix(".md").name).read_text()
    assert rest.count("```python\n") == len(code_cells(read(file)))
    for cell in read(file).cells:
        text = f"```python\n{cell.source}\n```" if cell.cell_type == "code" else f"\n{cell.source}\n"
        assert text in rest, f"{file.name} has changed; render it again, see {RENDERED}:\n{cell.source}"
        rest = rest.partition(text)[2]


@copied
def test_the_rendered_copy_has_tables_without_gaps(file):
    lines = (RENDERED / file.with_suffix(".md").name).read_text().splitlines()
    borders = [number for number, line in enumerate(lines) if line.strip().startswith(("┏", "┡", "├", "┌"))]
    assert all(lines[number + 1].strip().startswith(("┃", "│")) for number in borders)


@copied
def test_the_rendered_copy_names_its_pictures_and_nobodys_machine(file):
    text = (RENDERED / file.with_suffix(".md").name).read_text()
    pictures = set((RENDERED / f"{file.stem}_files").iterdir())
    assert {RENDERED / name for name in re.findall(r"\]\((.+?\.png)\)", text)} == pictures
    assert sum("plt.show()" in cell.source for cell in code_cells(read(file))) == len(pictures)
    assert all(picture.stat().st_size < 100_000 for picture in pictures)
    assert not re.findall(r"/home/|/root/|/tmp/|/Users/|site-packages|\x1b", text)
