"""The notebooks run, hold no code of their own, and their rendered copies in docs/notebooks/ say what they say.

After a change to a notebook, or to what it shows, render them again: the command stands at the top of each copy.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
RENDERED = REPOSITORY / "docs" / "notebooks"
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def read(file):
    return nbformat.read(file, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_three_are_here():
    assert [file.name[:2] for file in NOTEBOOKS] == ["01", "02", "03"]


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


def test_the_notebooks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("GFNET_NOTEBOOKS", str(tmp_path / "work"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's own start-up files
    monkeypatch.delenv("MPLBACKEND", raising=False)  # another one than the kernel's would show no picture
    for file in NOTEBOOKS:
        notebook = read(file)
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": tmp_path}}).execute()
        for cell in code_cells(notebook):
            outputs = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            assert len(outputs) == cell.source.count("plt.show()"), cell.source
            told = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
            assert "Warning" not in told, told
    assert (tmp_path / "work" / "runs" / "polish" / "version_0" / "report.html").is_file()


@by_name
def test_the_rendered_copy_has_the_cells_of_the_notebook(file):
    rest = (RENDERED / file.with_suffix(".md").name).read_text()
    assert rest.count("```python\n") == len(code_cells(read(file)))
    for cell in read(file).cells:
        text = f"```python\n{cell.source}\n```" if cell.cell_type == "code" else f"\n{cell.source}\n"
        assert text in rest, f"{file.name} has changed; render it again, see {RENDERED}:\n{cell.source}"
        rest = rest.partition(text)[2]


@by_name
def test_the_rendered_copy_names_its_pictures_and_nobodys_machine(file):
    text = (RENDERED / file.with_suffix(".md").name).read_text()
    pictures = set((RENDERED / f"{file.stem}_files").iterdir())
    assert {RENDERED / name for name in re.findall(r"\]\((.+?\.png)\)", text)} == pictures
    assert sum("plt.show()" in cell.source for cell in code_cells(read(file))) == len(pictures)
    assert all(picture.stat().st_size < 100_000 for picture in pictures)
    assert not re.findall(r"/home/|/root/|/tmp/|/Users/|site-packages|\x1b", text)
