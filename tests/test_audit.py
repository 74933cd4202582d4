import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfnet_pl.audit.audit import CANVAS, audit, run_audit
from gfnet_pl.data.cache import cached_images
from gfnet_pl.data.layouts import scan
from gfnet_pl.errors import UserError
from gfnet_pl.hand_signs.drawing import render

HOSTILE = "<img src=x onerror=alert(1)> & \"ü\" 'é'.png"


def draw(number):
    """A picture unlike that of any other number."""
    cells = np.random.default_rng(number).integers(40, 200, (8, 8), dtype=np.uint8)
    return np.kron(cells, np.ones((12, 12), np.uint8))


def save(root, path, pixels, **options):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / path, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 different training pictures and 4 test pictures in two classes."""
    folder = tmp_path / "data"
    for number in range(40):
        save(folder, f"Train/{'ab'[number % 2]}/{number:02}.png", draw(number))
    for number in range(40, 44):
        save(folder, f"Test/{'ab'[number % 2]}/{number:02}.png", draw(number))
    return folder


def findings(capsys, root, *options):
    run_audit([str(root), "--json", *options])
    return json.loads(capsys.readouterr().out)


def leaks(report):
    return {leak["split"]: leak for leak in report["leaks"]}


def paths(duplicates):
    return {tuple(sorted(pair["paths"])) for pair in duplicates["pairs"]}


def test_different_pictures_have_no_twins_and_leak_nothing(root, capsys):
    report = findings(capsys, root)
    for kind in ("within_split", "across_splits", "across_classes"):
        assert report[kind] == {"exact": 0, "near": 0, "pairs": []}
    assert report["distinct"] == 44
    assert leaks(report)["random split"] == {"split": "random split", "sets": {"val": [4, 0]}, "share": 0, "note": ""}
    assert leaks(report)["as provided"]["sets"] == {"test": [4, 0]}
    assert report["broken"] == []


def test_counts_balance_sizes_and_modes_are_those_of_the_files(root, capsys):
    for number in range(60, 80):
        Image.fromarray(draw(number)).convert("RGB").resize((130, 70)).save(root / f"Train/a/{number}.jpg")
    Image.fromarray(draw(80)).convert("P").save(root / "Train/b/palette.gif")
    report = findings(capsys, root)
    assert report["classes"] == {"a": 42, "b": 23}
    assert report["splits"] == {"train": 61, "test": 4}
    assert (report["rarest"], report["commonest"]) == ("b", "a")
    assert report["imbalance"] == pytest.approx(40 / 21)
    assert report["sizes"] == {"96 x 96": 45, "130 x 70": 20}
    assert report["modes"] == {"L": 44, "RGB": 20, "P": 1}


def test_exact_copies_are_told_by_where_they_are(root, capsys):
    save(root, "Train/a/copy in class.png", draw(0))
    save(root, "Train/b/copy in another class.png", draw(2), compress_level=0)
    save(root, "Test/b/copy in another split.png", draw(1))
    report = findings(capsys, root)
    assert report["within_split"]["exact"] == 4
    assert paths(report["within_split"]) == {
        ("Train/a/00.png", "Train/a/copy in class.png"),
        ("Train/a/02.png", "Train/b/copy in another class.png"),
    }
    assert report["across_splits"]["exact"] == 2
    assert paths(report["across_splits"]) == {("Test/b/copy in another split.png", "Train/b/01.png")}
    assert report["across_classes"]["exact"] == 2
    (pair,) = report["across_classes"]["pairs"]
    assert pair["correlation"] == 1
    assert sorted(zip(pair["paths"], pair["labels"], pair["splits"], strict=True)) == [
        ("Train/a/02.png", "a", "train"),
        ("Train/b/copy in another class.png", "b", "train"),
    ]
    assert [report[kind]["near"] for kind in ("within_split", "across_splits", "across_classes")] == [0, 0, 0]


def test_a_reencoded_copy_is_near_and_never_called_exact(root, capsys):
    save(root, "Test/a/again.jpg", draw(0), quality=60)
    report = findings(capsys, root)
    assert (report["across_splits"]["exact"], report["across_splits"]["near"]) == (0, 2)
    assert 0.98 <= report["across_splits"]["pairs"][0]["correlation"] < 1
    leak = leaks(report)["as provided"]
    assert leak["sets"] == {"test": [5, 1]}
    assert leak["share"] == pytest.approx(0.2)


def test_one_grey_level_in_one_pixel_is_near_and_its_correlation_is_not_rounded_to_one(root, capsys):
    pixels = draw(0)
    pixels[5, 5] += 1
    save(root, "Train/a/other.png", pixels)
    found = findings(capsys, root)["within_split"]
    assert (found["exact"], found["near"]) == (0, 2)
    assert 0.999 < found["pairs"][0]["correlation"] < 1


def test_a_random_split_of_clips_leaks_and_a_split_by_clip_does_not(tmp_path, capsys):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for clip in range(12):
        for frame in range(10):
            pixels = np.clip(draw(clip) + rng.normal(0, 5, (96, 96)), 0, 255).astype(np.uint8)
            save(root, f"{'ab'[clip % 2]}/clip{clip:02}_{frame}.png", pixels)
    report = findings(capsys, root, "--group-by", r"(clip\d+)")
    found = leaks(report)
    assert found["random split"]["share"] == 1
    assert found["random split"]["sets"]["val"][0] == 12
    assert found[r"by group, (clip\d+)"]["share"] == 0
    assert found[r"by group, (clip\d+)"]["sets"]["val"][0] >= 12
    assert "as provided" not in found
    assert report["distinct"] == 12
    by_twins = leaks(findings(capsys, root, "--group-by", "near-duplicates"))["by group, near-duplicates"]
    assert by_twins["share"] == 0
    assert by_twins["sets"]["val"][0] >= 12


def test_groups_by_twins_are_right_where_a_broken_and_a_test_picture_come_before(root, capsys):
    for number in range(40):
        save(root, f"Train/{'ab'[number % 2]}/{number:02} again.png", draw(number))
    (root / "Train/a/00.png").write_bytes(b"broken")
    save(root, "Test/a/00.png", draw(4))
    found = leaks(findings(capsys, root, "--group-by", "near-duplicates"))
    assert found["by group, near-duplicates"]["share"] == 0
    assert found["random split"]["share"] > 0.5


def test_the_split_in_use_is_read_from_the_run(root, capsys, tmp_path):
    save(root, "Train/a/twin.png", draw(0))
    save(root, "Train/a/added since.png", draw(2))
    splits = tmp_path / "splits.csv"

    def write(twin):
        rows = [
            f"Train/{'ab'[n % 2]}/{n:02}.png,{'ab'[n % 2]},{'val' if n in (0, 2) else 'train'},\n" for n in range(40)
        ]
        splits.write_text("path,label,split,group\n" + "".join(rows) + f"Train/a/twin.png,a,{twin},\n")

    write("train")
    report = findings(capsys, root, "--splits", str(splits))
    assert leaks(report)[f"in use, {splits}"]["sets"] == {"val": [2, 1]}
    assert report["across_splits"]["exact"] == 2
    assert report["splits"] == {"train": 39, "unused": 5, "val": 2}
    write("unused")
    report = findings(capsys, root, "--splits", str(splits))
    assert leaks(report)[f"in use, {splits}"]["share"] == 0
    assert report["across_splits"] == {"exact": 0, "near": 0, "pairs": []}


def test_the_splits_of_other_data_are_refused(root, tmp_path):
    (tmp_path / "splits.csv").write_text("path,label,split,group\nelse/1.png,a,train,\n")
    with pytest.raises(UserError, match=r"--splits: .*splits.csv names none of the pictures in .*data"):
        run_audit([str(root), "--splits", str(tmp_path / "splits.csv")])


def test_broken_pictures_are_reported_with_the_reason_and_left_out_of_the_rest(root, capsys):
    (root / "Train/a/00.png").write_bytes(b"no picture")
    (root / "Train/a/000.png").write_bytes(b"")
    save(root, "Test/a/last.png", draw(2))
    report = findings(capsys, root)
    assert [path for path, _ in report["broken"]] == ["Train/a/00.png", "Train/a/000.png"]
    assert all(reason for _, reason in report["broken"])
    assert report["classes"] == {"a": 22, "b": 22}
    assert report["sizes"] == {"96 x 96": 44}
    assert paths(report["across_splits"]) == {("Test/a/last.png", "Train/a/02.png")}


def test_nothing_but_broken_pictures_is_still_reported(tmp_path, capsys):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(b"no")
    report = findings(capsys, tmp_path / "data")
    assert len(report["broken"]) == 2
    assert report["distinct"] == 0
    assert report["imbalance"] is None
    run_audit([str(tmp_path / "data")])
    assert "nothing to train on" in capsys.readouterr().out


def test_a_class_too_small_to_split_leaves_the_rest_of_the_audit_standing(tmp_path, capsys):
    save(tmp_path, "data/a/1.png", draw(1))
    save(tmp_path, "data/b/1.png", draw(2))
    leak = leaks(findings(capsys, tmp_path / "data"))["random split"]
    assert leak["share"] is None
    assert "no class has two training pictures" in leak["note"]


def test_blank_frames_under_two_classes_contradict_each_other_where_equal(root, capsys):
    for path, level in (("Train/a/x.png", 20), ("Train/b/x.png", 20), ("Train/b/y.png", 21)):
        save(root, path, np.full((96, 96), level, np.uint8))
    report = findings(capsys, root)
    assert paths(report["across_classes"]) == {("Train/a/x.png", "Train/b/x.png")}


def test_a_class_may_have_the_name_of_a_split(root, capsys):
    save(root, "Train/unused/1.png", draw(0))
    save(root, "Train/unused/2.png", draw(50))
    assert findings(capsys, root)["across_classes"]["exact"] == 2


def test_of_many_pairs_each_cluster_comes_before_any_comes_twice(tmp_path, capsys):
    for number in range(60):  # one clip of 60 exact copies, and five pairs that are only near
        save(tmp_path / "data", f"a/{number:03}.png", draw(0))
    for number in range(1, 6):
        save(tmp_path / "data", f"a/x{number}.png", draw(number))
        save(tmp_path / "data", f"b/y{number}.jpg", draw(number), quality=60)
    report = findings(capsys, tmp_path / "data")
    pairs = [pair["paths"] for pair in report["within_split"]["pairs"]]
    assert len(pairs) == 24
    assert len({frozenset(pair) for pair in pairs}) == 24
    assert sum("x" in pair[0] for pair in pairs[:6]) == 5
    scores = [pair["correlation"] for pair in report["within_split"]["pairs"][:6]]
    assert scores == sorted(scores, reverse=True)


def test_pictures_that_look_alike_have_a_higher_border_which_the_table_says(tmp_path, capsys):
    rng = np.random.default_rng(0)
    common = np.kron(rng.normal(0, 50, (8, 8)), np.ones((4, 4)))
    for number in range(200):
        own = np.kron(rng.normal(0, 9, (8, 8)), np.ones((4, 4)))
        save(
            tmp_path / "data", f"{'ab'[number % 2]}/{number:03}.png", (128 + common + own).clip(0, 255).astype(np.uint8)
        )
    report = findings(capsys, tmp_path / "data")
    assert 0.98 < report["border"] < 0.99
    assert report["across_classes"]["near"] <= 4
    run_audit([str(tmp_path / "data")])
    out = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert f"correlation of {report['border']:.4g} or more, not 0.98: pictures of different classes look alike" in out


def test_the_table_tells_the_findings_in_a_few_lines(root, capsys):
    save(root, "Test/a/again.png", draw(0))
    (root / "Train/b/[red]broken.png").write_bytes(b"")
    run_audit([str(root)])
    out = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "20.0% of evaluated pictures have a near twin in training (1 of 5 test)" in out
    assert "twins across splits 2 exact, 0 near" in out
    assert "[red]broken.png" in out


def test_the_page_shows_the_pairs_contradictions_first_and_holds_its_pictures(root, capsys, tmp_path):
    save(root, f"Train/a/{HOSTILE}", draw(1))
    save(root, "Test/b/again.png", draw(3))
    save(root, "Train/a/twice.png", draw(4))
    (root / "Train/b/<b>broken.png").write_bytes(b"")
    run_audit([str(root), "--page", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &quot;ü&quot; &#x27;é&#x27;.png" in page
    assert "&lt;b&gt;broken.png" in page
    assert "<b>broken.png" not in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    contradictory, across, within = (page.index(f"<h2>{word}") for word in ("Contradictory", "Across", "Within"))
    assert contradictory < page.index("&lt;img src=x") < across < page.index("Test/b/again.png") < within
    assert within < page.index("Train/a/twice.png")
    assert "equal pixels" in page[contradictory:across]


def test_the_page_s_thumbnails_are_the_pictures_they_are_named_by(root, tmp_path):
    import base64
    import io

    save(root, "Test/b/again.jpg", draw(3), quality=60)
    run_audit([str(root), "--page", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text("utf-8")
    (figure,) = re.findall(r"<figure>(?:(?!</figure>).)*Train/b/03.png</figcaption>", page.partition("<h2>Within")[0])
    png = base64.b64decode(re.search(r"base64,([^\"]+)", figure)[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), draw(3))
    assert "<b>b</b> · train" in figure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{root}", "--pgae", "x"], r"gfnet audit: unrecognized arguments: --pgae"),
        (["{root}/none"], r"none"),
        (["{root}", "--page", "{root}/no folder/p.html"], r"--page: .*no folder is not a folder; make it first"),
        (["{root}", "--group-by", "(nowhere)"], r"group_by"),
        (["{root}", "--splits", "{root}/none.csv"], r"none.csv does not exist"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(root, options, message):
    with pytest.raises(UserError, match=message) as error:
        run_audit([option.format(root=root) for option in options])
    assert "\n" not in str(error.value)


def test_the_embedded_hands_leak_by_a_random_split_and_not_by_signer(tmp_path):
    for label in ("A", "M"):
        for signer in range(12):
            for frame in range(6):
                save(tmp_path, f"{label}/signer{signer:03}_{frame}.png", render(label, signer=signer, frame=frame))
    found = scan(tmp_path)
    cached = cached_images(found.folder, [picture.path for picture in found.pictures], CANVAS)
    random, by_signer = audit(found, cached, group_by=r"(signer\d+)").leaks
    assert random.share > 0.2
    assert by_signer.share == 0
