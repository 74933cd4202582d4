import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, QUIET, TINY_NET, write_picture

from gfnet_pl.cli import main
from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError
from gfnet_pl.report.analysis import _surest, analyse
from gfnet_pl.report.words import NONE
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.learning_curve import LearningCurve, Point, write_learning_curve
from gfnet_pl.run.results import Results, SetResults
from gfnet_pl.run.run import read_run
from gfnet_pl.training.classifier import GFNetClassifier

RUN = Path("runs/base/version_0")
NO_UMAP = 'the map needs umap-learn, which is not installed: pip install "gfnet_pl[map]"'


class Text(HTMLParser):
    """What a page says: the text of its elements by their id's section, without script and style."""

    def __init__(self):
        super().__init__()
        self.sections, self.within, self.ignored = {}, "", 0

    def handle_starttag(self, tag, attributes):
        self.handle_data("" if tag == "wbr" else " ")
        self.within = dict(attributes).get("id", self.within) if tag == "section" else self.within
        self.ignored += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.ignored -= tag in ("script", "style")

    def handle_data(self, words):
        if not self.ignored:
            self.sections[self.within] = self.sections.get(self.within, "") + words


def sections(file=RUN / "report.html"):
    text = Text()
    text.feed(file.read_text())
    return {name: " ".join(words.split()) for name, words in text.sections.items()}


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def train(root, *options, groups=True):
    """A tiny run in the current folder, tested."""
    rule = ["--data.group_by", r"((?:Unseen/\w+/)?\d)\d*\.png"] if groups else []  # other people are in Unseen
    data = [f"--data.root={root}", "--data.batch_size=16", "--data.holdout_per_class=2", *rule]
    learn = ["--trainer.max_epochs=2", "--model.warmup_epochs=1"]
    assert main(["fit", "--config=base.yaml", *TINY_NET, *QUIET, *data, *learn, *options]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with pictures and a tested run of them, made once."""
    folder = tmp_path_factory.mktemp("made")
    for offset, split, count in ((0, "Train", 20), (1000, "Test", 4), (2000, "Unseen", 12)):
        for number, label in enumerate(CLASSES):
            for index in range(count):
                write_picture(
                    folder / "pictures" / split / label / f"{index:02}.png", label, offset + 100 * number + index
                )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        train("pictures", "--model.lr=3e-3")  # so much that it takes a class's pictures for several
        assert main(["test", *QUIET]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    metrics = json.loads((folder / RUN / "metrics.json").read_text())
    metrics["root"] = str(folder / "pictures")
    (folder / RUN / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def no_umap(monkeypatch):
    """UMAP takes seconds; the tests that are not about its map do without."""

    def refuse(points):
        raise UserError(NO_UMAP)

    monkeypatch.setattr("gfnet_pl.report.analysis.umap_map", refuse)


def test_the_page_holds_everything_itself_and_is_small(run, no_umap):
    assert main(["report"]) == 0
    page = (RUN / "report.html").read_text()
    assert len(page) < 5_000_000
    for outside in ("http:", "https:", 'src="/', '<link rel="stylesheet', "@import"):
        assert outside not in page, outside
    assert set(re.findall(r'href="#(\w+)"', page)) == set(re.findall(r'<\w+ id="(\w+)"', page)) - SCRIPTED


SCRIPTED = {"table", "mistakes", "pictures", "hover"}  # places that page.js fills


def test_the_report_of_a_tested_run_needs_no_lightning(run):
    code = "import sys; from gfnet_pl.cli import main; from gfnet_pl.evaluation import embedding\n"
    code += "embedding.NEIGHBOURS = sys.maxsize\n"  # as in conftest.py: no UMAP, which compiles itself in each process
    code += "assert main(['report', '--json']) == 0; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["run"] == str(RUN)
    packages = {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "torch" in packages
    assert not packages & {"lightning", "pytorch_lightning", "torchmetrics", "jsonargparse"}


def test_the_page_says_every_set_s_figures_and_how_to_do_it_again(run, no_umap):
    metrics = json.loads((RUN / "metrics.json").read_text())
    part = {"unseen": (0.5, 0.4, 0.6)}
    points = [Point(share, "curve/version_0", int(48 * share), 16 * share, 2, part) for share in (0.25, 0.5, 1.0)]
    gain = (0.041, 0.01, 0.072)
    sha = metrics["checkpoint"]["sha256"]
    curve = LearningCurve(sha, "pictures", points, "unseen", "new people", True, 36, gain)
    write_learning_curve(RunFolder(RUN), curve)
    assert main(["report"]) == 0
    words = sections()
    columns = [metrics["sets"][name] for name in ("unseen", "holdout", "test", "val")]
    table = words["sets"].partition("All figures ")[2]
    assert table.startswith("unseen holdout test val ")
    for title, cell in (
        ("pictures", lambda each: each["accuracy"]["images"]),
        ("right", lambda each: each["accuracy"]["right"]),
        ("accuracy", lambda each: f"{100 * each['accuracy']['share']:.2f} %"),
        ("log loss", lambda each: f"{each['log_loss']:.3f}"),
    ):
        assert " ".join([title, *(str(cell(each)) for each in columns)]) in table
    low, high = columns[0]["new_groups"]
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %" in table  # over people: they are new
    known = columns[3]["accuracy"]
    assert f"{100 * known['low']:.1f} to {100 * known['high']:.1f} % worst person" in table  # over pictures
    assert json.loads((RUN / "run.json").read_text())[0]["command"] in words["again"]
    assert metrics["checkpoint"]["sha256"] in words["again"]
    assert "dim 16, depth 2" in words["run"]
    assert "Twice as many pictures brought 4.1 points on unseen (95 %: 1.0 to 7.2)" in words["curves"]
    first = [row.split(",") for row in (RUN / "losses.csv").read_text().splitlines()[1:]]
    shown = [each for each in first if each[4]][:40]
    assert len(shown) > 30
    said = [f"given {label} , rather {instead} believed now:" for _, label, _, _, instead in shown]
    places = [words["labels"].replace(" ,", ",").find(each.replace(" ,", ",")) for each in said]
    assert min(places) > 0
    assert words["labels"].index(shown[0][0]) < words["labels"].index(shown[1][0])
    assert "half 8 pictures per class, 2 people 50.0 %" in words["curves"]
    assert "missing" not in (RUN / "report.html").read_text().split('<section id="curves">')[1].split("</section>")[0]


def test_several_runs_are_compared_on_the_same_pictures(run, no_umap):
    train("pictures", "--model.lr=5e-3", "--trainer.max_epochs=5", "--stage=other")
    assert main(["test", *QUIET]) == 0
    other = Path("runs/other/version_0")
    assert main(["report", str(RUN), str(other), "--out", "both.html"]) == 0
    words = sections(Path("both.html"))["compare"]
    assert "model.lr 0.003 0.005" in words
    assert "model.dim" not in words
    right = {
        folder: {row.split(",")[0]: row.split(",")[3] == row.split(",")[4] for row in lines}
        for folder in (RUN, other)
        if (lines := [x for x in (folder / "predictions.csv").read_text().splitlines() if ",unseen," in x])
    }
    better = sum(right[other][path] and not right[RUN][path] for path in right[RUN])
    worse = sum(right[RUN][path] and not right[other][path] for path in right[RUN])
    assert f"other/version_0 unseen 36 {better} {worse}" in words
    low, high = json.loads((other / "metrics.json").read_text())["sets"]["unseen"]["new_groups"]
    assert f"({100 * low:.1f} to {100 * high:.1f} %)" in words  # over people, as everywhere


def test_json_is_for_machines(run, no_umap, capsys):
    capsys.readouterr()
    assert main(["report", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["sets"] == json.loads((RUN / "metrics.json").read_text())["sets"]
    assert found["settings"]["model.dim"] == 16
    assert set(found["near_twins_in_training"]) == {"val", "test", "holdout", "unseen"}
    assert found["overlap"]["verdict"]
    assert found["labels_to_check"]["pictures"] == 48
    assert not (RUN / "report.html").exists()


def test_a_run_that_was_not_tested_since_is_tested_first(run, no_umap, capsys):
    train("pictures", "--stage=fresh", "--trainer.max_epochs=1")
    capsys.readouterr()
    assert main(["report", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)  # nothing of the test is in between
    assert found["run"] == "runs/fresh/version_0"
    checkpoint = torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["net.head.bias"] += torch.tensor([100.0, 0, 0])
    torch.save(checkpoint, RUN / "checkpoints" / "best.ckpt")
    assert main(["report", str(RUN), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["sets"]["test"]["confusion"] == [[4, 0, 0]] * 3  # all are taken for the first class


def test_pictures_that_are_gone_leave_the_figures_and_a_word(run, no_umap):
    shutil.move("pictures", "elsewhere")
    assert main(["report"]) == 0
    words = sections()
    assert re.search(r"unseen new people, \d+ of 36 ", words["sets"])
    for name in ("sets", "errors", "labels", "overlap", "filters"):
        assert "The pictures are unavailable" in words[name], name
    assert "gain kernels block 1" in words["filters"]


def test_one_evaluated_picture_that_is_gone_or_broken_is_named(run, no_umap):
    picture = Path("pictures/Unseen/bee/03.png")
    picture.write_bytes(b"no picture")
    assert main(["report"]) == 0
    assert "1 of the evaluated pictures cannot be read any more: Unseen/bee/03.png" in sections()["errors"]
    picture.unlink()
    assert main(["report"]) == 0
    assert "Unseen/bee/03.png" in sections()["errors"]


def test_curves_and_history_that_are_gone_leave_a_word(run, no_umap):
    for file in [*RUN.glob("events*"), *RUN.glob("filters.npz"), RUN / "run.json"]:
        file.unlink(missing_ok=True)
    assert main(["report"]) == 0
    words = sections()
    assert "holds no TensorBoard events" in words["curves"]
    assert f"gfnet curve {RUN}" in words["curves"]
    assert "filters.npz is not there" in words["filters"]
    assert "the command line is not known" in words["again"]


def test_without_umap_the_page_says_how_to_add_it(run, no_umap):
    assert main(["report"]) == 0
    assert NO_UMAP in sections()["map"]


def test_without_an_unseen_set_nothing_is_promised(run, no_umap):
    shutil.rmtree("pictures/Unseen")
    train("pictures", "--stage=known", groups=False)
    assert main(["report"]) == 0
    words = sections(Path("runs/known/version_0/report.html"))
    assert "Nothing here says how good the net is on new people" in words[""]
    assert "There is no gap to state" in words["sets"]
    assert "Find out how good it is for new people" in words["sets"]
    assert "Who is on these pictures is not known" in words["people"]


def test_a_set_with_one_picture_and_a_class_with_none_have_a_page(run, no_umap):
    for path in [*Path("pictures/Test").glob("*/*.png")][1:]:
        path.unlink()
    train("pictures", "--stage=few")
    assert main(["report"]) == 0
    words = sections(Path("runs/few/version_0/report.html"))
    assert "1 of 1" in words["sets"] or "0 of 1" in words["sets"]
    assert re.search(rf"(ant|bee|Cat) {NONE} ", words["classes"])  # its recall


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda: shutil.rmtree(RUN / "checkpoints"), "has no checkpoint: it is still in its first epoch"),
        (lambda: shutil.rmtree(RUN), "does not exist; name the folder of a run"),
        (lambda: (RUN / "metrics.json").write_text("{"), "metrics.json cannot be read"),
        (lambda: (RUN / "outputs.npz").write_bytes(b"PK"), "run gfnet test again"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(run, capsys, break_it, message):
    break_it()
    assert main(["report", str(RUN)]) == 2
    line = last_line(capsys)
    assert line.startswith("gfnet: error: ")
    assert message in line


def test_weights_that_are_not_finite_are_one_line(run, capsys):
    checkpoint = torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["net.head.weight"][:] = float("nan")
    torch.save(checkpoint, RUN / "checkpoints" / "best.ckpt")
    assert main(["report", str(RUN)]) == 2
    assert "no finite numbers" in last_line(capsys)


def test_names_cannot_break_out_of_the_page(run, no_umap):
    folders = ["a&lt", 'b"><img src=x>', "c{{ 7 * 7 }}"]
    for name, folder in zip(CLASSES, folders, strict=True):
        for split in ("Train", "Test", "Unseen"):
            shutil.move(f"pictures/{split}/{name}", f"pictures/{split}/{folder}")
    for path in Path("pictures/Unseen").glob("*/00.png"):
        path.rename(path.with_name("00<!--<script>0.png"))
    train("pictures", "--stage=evil", groups=False)
    assert main(["report"]) == 0
    page = Path("runs/evil/version_0/report.html").read_text()
    assert "<img src=x>" not in page
    assert "c{{ 7 * 7 }}" in sections(Path("runs/evil/version_0/report.html"))["run"]
    data = page.split('id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["classes"] == folders


def test_the_map_is_of_the_evaluated_pictures(run):
    assert main(["report"]) == 0
    page = (RUN / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    shown = [data["pictures"][number] for number in data["maps"]["pictures"]]
    assert sorted(row[4] for row in shown) == sorted(
        row.split(",")[0] for row in (RUN / "predictions.csv").read_text().splitlines()[1:]
    )
    for name in ("pixels", "features"):
        points = np.array(data["maps"][name])
        assert points.shape == (len(shown), 2)
        assert points.min() >= 0
        assert points.max() <= 1


def test_worst_errors_are_the_surest_but_one_of_each_kind_first():
    shares = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.45, 0.55]])
    pictures = [Picture(f"{place}.png", "a", "test", group) for place, group in enumerate(["x", "x", "y", "", ""])]
    test = SetResults(pictures=pictures, labels=np.zeros(5, int), logits=np.log(shares), features=shares)
    results = Results(classes=["a", "b"], checkpoint={}, source="", root=None, known=[], sets={"test": test})
    assert _surest(results, np.arange(5)) == [
        0,
        2,
        3,
        4,
        1,
    ]  # frame 1 is of x again; pictures without group are alone


def test_the_very_worst_errors_say_what_each_token_spoke_for(run, no_umap):
    found = read_run(RunFolder(RUN))
    analysis = analyse(found)
    model = GFNetClassifier.load_from_checkpoint(found.checkpoint.path, map_location="cpu").eval()
    worst = analysis.pictures.worst
    explained = [error for error in worst if error.saliency is not None]
    assert len(explained) == min(6, len(worst)) > 0
    for error in explained:
        assert error.saliency.shape == (4, 4)  # 16 x 16 pixels in patches of 4 x 4
        pixels = torch.from_numpy(analysis.pictures.images([error.place]))[:, None]
        said = found.results.everything.predictions[error.place]
        with torch.no_grad():
            difference = (model.net(pixels) - model.net(pixels * 0.0 + model.net.mean))[0, said].item()
        assert error.saliency.sum() == pytest.approx(difference, rel=0.05, abs=0.02)


def test_a_table_of_groups_goes_into_the_results_and_bad_rows_are_one_line(run, no_umap, capsys):
    (run / "people.csv").write_text("group,light\n0,dark\nUnseen/ant/0,bright\nUnseen/nobody/0,dark\n")
    assert main(["test", "--data.group_table=nobody.csv", *QUIET]) == 2
    assert "nobody.csv does not exist" in last_line(capsys)
    assert main(["test", "--data.group_table=people.csv", *QUIET]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "group_table" in line]
    assert len(said) == 1 and "rows of Unseen/nobody/0, which the data do not have" in said[0]
    metrics = json.loads((RUN / "metrics.json").read_text())
    assert metrics["properties"]["Unseen/ant/0"] == {"light": "bright"}
    assert main(["report"]) == 0
    assert "it takes 8 to say what goes with failures" in sections()["people"]
    assert "taken for" in sections()["people"] and "nearest training pictures of" in sections()["people"]
