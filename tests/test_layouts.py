import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import trees
from rich.console import Console
from trees import class_folders, split_folders, write_classes, write_grey

from gfnet_pl.data.layouts import Picture, pictures_in, scan, table_of
from gfnet_pl.errors import UserError


def splits(found):
    return Counter(picture.split for picture in found.pictures)


def labels(found, split):
    return {picture.label for picture in found.pictures if picture.split == split}


def paths(found):
    return [picture.path for picture in found.pictures]


# The layouts, as their archives unpack


@pytest.mark.parametrize(
    ("layout", "classes", "tested", "counts"),
    [
        (trees.kapillondhe, trees.NOTHING_SPACE, trees.NOTHING_SPACE, {"train": 84, "test": 112}),
        (
            trees.grassknoted,
            trees.DEL_NOTHING_SPACE,
            {*trees.DEL_NOTHING_SPACE} - {"del"},
            {"train": 87, "test": 28},
        ),
        (trees.debashishsau, trees.DEL_NOTHING_SPACE, trees.DEL_NOTHING_SPACE, {"train": 87, "test": 29}),
        (trees.danrasband, trees.DEL_NOTHING_SPACE, (), {"train": 87}),
        (trees.lexset, trees.BLANK, trees.BLANK, {"train": 81, "test": 27}),
        (trees.class_folders, ("ant", "bee"), (), {"train": 6}),
        (trees.split_folders, ("ant", "bee"), ("ant", "bee"), dict.fromkeys(("train", "val", "test", "unseen"), 4)),
        (trees.manifest, ("ant", "bee"), ("ant", "bee"), {"train": 8, "test": 4}),
    ],
)
def test_every_layout_is_read_as_it_is_unpacked(tmp_path, layout, classes, tested, counts):
    found = scan(layout(tmp_path))
    assert (splits(found), labels(found, "train"), labels(found, "test")) == (counts, {*classes}, {*tested})
    assert found.left_out == []
    for picture in found.pictures:
        assert (found.folder / picture.path).is_file()
        assert picture.label in Path(picture.path).name or picture.label == Path(picture.path).parent.name


@pytest.mark.parametrize("layout", [trees.kapillondhe, trees.debashishsau])
def test_the_folder_above_is_read_as_well(tmp_path, layout):
    root = layout(tmp_path)
    inner, above = scan(root), scan(tmp_path)
    assert above.pictures == [picture._replace(path=f"{root.name}/{picture.path}") for picture in inner.pictures]
    assert above.folder == tmp_path


def test_one_class_folder_is_not_looked_through(tmp_path):
    write_classes(tmp_path, ["ant"], 2)
    assert labels(scan(tmp_path), "train") == {"ant"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Training", "Validation", "Testing"), {"train", "val", "test"}),
        (("TRAIN", "VALID", "UNSEEN"), {"train", "val", "unseen"}),
        (("Train_Alphabet", "my-val", "Test 2"), {"train", "val", "test"}),
    ],
)
def test_split_folders_are_known_by_the_words_people_use(tmp_path, names, expected):
    assert set(splits(scan(trees.split_folders(tmp_path, names)))) == expected


def test_a_class_called_train_is_a_class_and_no_split(tmp_path):
    write_classes(tmp_path, ["train", "bus", "test tube"], 2)
    assert labels(scan(tmp_path), "train") == {"train", "bus", "test tube"}


def test_a_test_folder_without_a_training_folder_is_not_taken_for_classes(tmp_path):
    with pytest.raises(UserError, match=r"has test but no train folder .*give .*test to train on that"):
        scan(trees.split_folders(tmp_path, ["test", "val"]))


def test_two_folders_of_one_split_are_named(tmp_path):
    with pytest.raises(UserError, match="has val and valid, all of the split val; keep one"):
        scan(trees.split_folders(tmp_path, ["train", "val", "valid"]))


def test_what_lies_beside_class_and_split_folders_is_left_out_with_its_reason(tmp_path):
    trees.split_folders(tmp_path, ["train", "test"])
    write_grey(tmp_path / "more" / "1.png")
    for loose in ("a.png", "train/b.png", "test/ant_test.png"):
        write_grey(tmp_path / loose)
    found = scan(tmp_path)
    assert splits(found) == {"train": 4, "test": 4}
    assert sorted(found.left_out) == [
        ("a.png", "in no class folder"),
        ("more/", "beside the split folders"),
        ("test/ant_test.png", "in no class folder"),
        ("train/b.png", "in no class folder"),
    ]


def test_pictures_in_folders_below_a_class_folder_are_of_that_class(tmp_path):
    write_grey(tmp_path / "ant" / "day 1" / "left" / "1.png")
    write_grey(tmp_path / "bee" / "1.png")
    assert scan(tmp_path).pictures == [
        Picture("ant/day 1/left/1.png", "ant", "train", ""),
        Picture("bee/1.png", "bee", "train", ""),
    ]


# Classes


def test_provided_classes_are_mapped_by_name_ignoring_case(tmp_path):
    write_classes(tmp_path / "Train", ["N", "Nothing", "O"], 1)
    for name in ("nothing", "N", "o"):
        write_grey(tmp_path / "Test" / f"{name}_test.jpg")
    assert {Path(p.path).stem: p.label for p in scan(tmp_path).pictures if p.split == "test"} == {
        "nothing_test": "Nothing",
        "N_test": "N",
        "o_test": "O",
    }


def test_two_training_classes_that_differ_in_case_stay_two_and_a_third_spelling_fits_neither(tmp_path):
    write_classes(tmp_path / "train", ["ab", "AB"], 1)
    write_classes(tmp_path / "test", ["ab", "AB", "Ab"], 1)
    found = scan(tmp_path)
    assert labels(found, "train") == labels(found, "test") == {"ab", "AB"}
    assert [(Path(p.path).parent.name, p.label) for p in found.pictures if p.split == "test"] == [
        ("AB", "AB"),
        ("ab", "ab"),
    ]
    assert found.left_out == [("test/Ab/Ab1.jpg", "training has no class 'Ab'")]


def test_classes_and_flat_files_that_training_lacks_are_left_out_with_the_reason(tmp_path):
    write_classes(tmp_path / "train", ["ant"], 1)
    write_classes(tmp_path / "unseen", ["dog"], 2)
    (tmp_path / "val" / "ant").mkdir(parents=True)
    for name in ("ant_test", "dog_test", "nonsense"):
        write_grey(tmp_path / "test" / f"{name}.jpg")
    found = scan(tmp_path)
    assert splits(found) == {"train": 1, "test": 1}
    assert sorted(found.left_out) == [
        ("test/dog_test.jpg", "training has no class 'dog'"),
        ("test/nonsense.jpg", "in no class folder"),
        ("unseen/dog/dog1.jpg", "training has no class 'dog'"),
        ("unseen/dog/dog2.jpg", "training has no class 'dog'"),
        ("val/ant/", "holds no picture"),
    ]


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Größe é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    write_grey(tmp_path / "train" / decomposed / "a b.PNG")
    write_grey(tmp_path / "test" / composed / "1.png")
    found = scan(tmp_path, [decomposed])
    assert labels(found, "train") == labels(found, "test") == {composed}
    assert [(tmp_path / path).is_file() for path in paths(found)] == [True, True]


def test_classes_picks_a_subset_and_says_how_it_is_spelt(tmp_path):
    write_classes(tmp_path / "train", ["ant", "bee", "Cat"], 1)
    write_classes(tmp_path / "test", ["CAT", "bee"], 1)
    found = scan(tmp_path, ["cat", "ant"])
    assert labels(found, "train") == {"ant", "cat"}
    assert labels(found, "test") == {"cat"}
    assert sorted(found.left_out) == [
        ("test/bee/bee1.jpg", "not among data.classes"),
        ("train/bee/bee1.jpg", "not among data.classes"),
    ]


def test_classes_are_matched_exactly_before_case_is_ignored(tmp_path):
    write_classes(tmp_path, ["a", "A"], 1)
    assert [picture.path for picture in scan(tmp_path, ["a"]).pictures] == ["a/a1.jpg"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["ant", "bees"], r"data.classes: .* no class 'bees'; did you mean bee\?"),
        (["ant", "ANT"], "data.classes names 'ant' twice"),
        ([], "data.classes is empty"),
    ],
)
def test_classes_that_are_not_there_or_twice_are_named(tmp_path, classes, message):
    with pytest.raises(UserError, match=message):
        scan(trees.class_folders(tmp_path), classes)


def test_an_empty_training_class_folder_is_named_unless_it_is_not_asked_for(tmp_path):
    trees.class_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UserError, match="empty holds no picture; add some or remove the folder"):
        scan(tmp_path)
    found = scan(tmp_path, ["ant", "bee"])
    assert ("empty/", "not among data.classes") in found.left_out
    assert len(found.pictures) == 6


# Files and folders


def test_hidden_and_system_files_are_passed_over_and_others_counted_by_suffix(tmp_path):
    trees.class_folders(tmp_path)
    for name in (".hidden/1.png", "__MACOSX/2.png", "ant/.3.png", "ant/.git/4.png", "bee/__MACOSX/5.png"):
        write_grey(tmp_path / name)
    for name in ("Thumbs.db", "ant/Thumbs.db", "ant/a.TXT", "ant/b.txt", "bee/README", "data.json", "ant/desktop.ini"):
        (tmp_path / name).touch()
    found = scan(tmp_path)
    assert len(found.pictures) == 6
    assert found.left_out == [(f"*{kind}", "no picture by the suffix") for kind in (" (1)", ".json (1)", ".txt (2)")]


@pytest.mark.parametrize("target", ["..", "../..", "../bee", "."])
def test_links_to_folders_inside_the_tree_list_nothing_twice(tmp_path, target):
    root = trees.class_folders(tmp_path / "data")
    (root / "ant" / "loop").symlink_to(target)
    found = scan(root)
    assert len(found.pictures) == len(set(paths(found))) == 6
    assert found.left_out == [("ant/loop", "a link to a folder, inside a class")]


@pytest.mark.parametrize("target", ["ant", ".", ".."])
def test_a_class_folder_that_links_into_or_above_the_tree_is_left_out(tmp_path, target):
    root = trees.class_folders(tmp_path / "data")
    (root / "again").symlink_to(target)
    found = scan(root)
    assert labels(found, "train") == {"ant", "bee"}
    assert found.left_out == [("again", "a link to a folder of the same tree")]


def test_a_class_or_split_folder_that_links_elsewhere_is_followed_once(tmp_path):
    store = write_classes(tmp_path / "data2", ["cat"], 2)  # not inside data, though it begins like it
    write_classes(tmp_path / "tests", ["ant"], 1)
    root = write_classes(tmp_path / "data" / "train", ["ant"], 2).parent
    (root / "train" / "cat").symlink_to(store / "cat")
    (root / "train" / "tiger").symlink_to(store / "cat")
    (root / "test").symlink_to(tmp_path / "tests")
    found = scan(root)
    assert labels(found, "train") == {"ant", "cat"}
    assert splits(found) == {"train": 4, "test": 1}
    assert found.left_out == [("train/tiger", "a link to a folder of the same tree")]


def test_a_picture_that_is_a_link_counts_once(tmp_path):
    root = trees.class_folders(tmp_path / "data")
    write_grey(tmp_path / "elsewhere.png")
    (root / "ant" / "0.png").symlink_to("1.png")  # sorted before the picture itself
    (root / "ant" / "8.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "bee" / "9.png").symlink_to(tmp_path / "elsewhere.png")
    found = scan(root)
    assert [path for path in paths(found) if "ant" in path] == ["ant/1.png", "ant/2.png", "ant/3.png", "ant/8.png"]
    assert found.left_out == [
        ("ant/0.png", "a link to a picture that is listed already"),
        ("bee/9.png", "a link to a picture that is listed already"),
    ]


@pytest.mark.parametrize("target", ["nowhere.png", "link.png"])
def test_a_link_to_nothing_or_to_itself_is_a_picture_to_be_found_broken(tmp_path, target):
    trees.class_folders(tmp_path)
    (tmp_path / "ant" / "link.png").symlink_to(target)
    assert "ant/link.png" in paths(scan(tmp_path))


def test_a_pipe_with_the_name_of_a_picture_is_left_out(tmp_path):
    trees.class_folders(tmp_path)
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    assert scan(tmp_path).left_out == [("ant/pipe.png", "no file: a pipe, socket or device")]


def test_a_folder_that_cannot_be_read_is_named_and_not_passed_over(tmp_path, monkeypatch):
    trees.class_folders(tmp_path)
    real = os.scandir

    def refuse(path):  # the tests may run as root, for whom every folder is readable
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (scan, pictures_in):
        with pytest.raises(UserError, match=r"bee cannot be read \(Permission denied\)"):
            read(tmp_path)


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    trees.class_folders(tmp_path)
    (tmp_path / "ant" / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(UserError, match=r"caf\\udce9.png: the name is not UTF-8") as caught:
        scan(tmp_path)
    str(caught.value).encode()


def test_pictures_in_lists_files_sorted_by_path_and_follows_no_link_to_a_folder(tmp_path):
    names = ["a-b/2.png", "a/1.JPG", "a/b/0.png", "z.gif"]
    for name in names:
        write_grey(tmp_path / name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "z link.gif").symlink_to("z.gif")
    (tmp_path / "notes.txt").touch()
    assert pictures_in(tmp_path) == sorted(tmp_path / name for name in [*names, "z link.gif"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", r"data.root: .*nowhere is not a folder"),
        (lambda folder: write_grey(folder / "a.png"), r"data.root: .*a.png is not a folder"),
        (lambda folder: folder, r"no class folder with pictures in .*; expected <class>/\*.png"),
        (lambda folder: write_grey(folder / "ant_test.png").parent, "no class folder with pictures"),
        (lambda folder: (folder / "a.zip").touch() or folder, "or give the .zip itself"),
    ],
)
def test_a_root_that_is_none_says_what_is_expected(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        scan(make(tmp_path))


# Manifests


def test_a_manifest_gives_labels_splits_and_groups_in_any_order_of_columns(tmp_path):
    write_grey(tmp_path / "größe 1, x.png")
    write_grey(tmp_path / "b.png")
    file = trees.manifest(
        tmp_path,
        "group,label,path,split",
        [("s1", "ant, black", "größe 1, x.png", "Training"), ("", "ANT, black", "./b.png", "VALID")],
    )
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\r\n")  # as spreadsheets save it
    found = scan(file)
    assert found.pictures == [
        Picture("größe 1, x.png", "ant, black", "train", "s1"),
        Picture("b.png", "ant, black", "val", ""),
    ]
    assert found.folder == tmp_path


def test_a_manifest_without_splits_and_groups_is_all_training(tmp_path):
    write_grey(tmp_path / "1.png")
    assert scan(trees.manifest(tmp_path, "path,label", [("1.png", "ant")])).pictures == [
        Picture("1.png", "ant", "train", "")
    ]


def test_a_manifests_labels_are_one_class_in_either_unicode_form(tmp_path):
    for name in ("1.png", "2.png"):
        write_grey(tmp_path / name)
    file = trees.manifest(tmp_path, "path,label", [("1.png", "e\u0301"), ("2.png", "\u00e9")])
    assert labels(scan(file), "train") == {"\u00e9"}


def test_a_manifests_classes_are_picked_like_folders(tmp_path):
    found = scan(trees.manifest(tmp_path), ["BEE"])
    assert labels(found, "train") == labels(found, "test") == {"BEE"}
    assert len(found.left_out) == 6


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,label", [("1.png", "ant"), ("2.png", "ant")], "line 3: 2.png does not exist"),
        ("path,label", [("1.png", "ant"), ("./1.png", "bee")], "line 3: 1.png stands in line 2 already"),
        ("path,label", [("1.png", " ")], "line 2: the label is empty"),
        ("path,label", [("", "ant")], "line 2: the path is empty"),
        ("path,label", [("../inside/1.png", "ant")], r"line 2: \.\./inside/1.png leads out of the folder"),
        ("path,label", [("sub/../1.png", "ant")], r"line 2: sub/\.\./1.png leads out of the folder"),
        ("path,label", [("/1.png", "ant")], "line 2: /1.png leads out of the folder"),
        ("path,label", [("link.png", "ant")], "line 2: link.png is a link that leads out of"),
        ("path,label", [("away/2.png", "ant")], "line 2: away/2.png is a link that leads out of"),
        ("path,label", [("sub", "ant")], "line 2: sub is no file"),
        ("path,label", [("link to sub.png", "ant")], "line 2: link to sub.png is no file"),
        ("path,label", [("a\0.png", "ant")], "line 2"),
        ("path,label", [("a\0/b.png", "ant")], "line 2"),
        (
            "path,label,split",
            [("1.png", "ant", "tarin")],
            "line 2: no split 'tarin'; there are train, val, test, dev, unseen",
        ),
        ("path,label,split", [("1.png", "ant", "holdout")], "line 2: no split 'holdout'"),
        ("path,label,split", [("1.png", "ant", "")], "line 2: no split ''"),
        ("path,label,split", [("1.png", "ant")], "line 2: 2 values for 3 columns"),
        ("path,label,spilt", [("1.png", "ant", "test")], r"a column 'spilt'; .* did you mean split\?"),
        ("path,label,label", [("1.png", "ant", "ant")], "has the columns path,label,label"),
        ("path,split", [("1.png", "train")], "has the columns path,split; expected"),
        ("path;label", [("1.png;ant",)], "has a column 'path;label'"),
        ("path,label,split", [("1.png", "ant", "test")], "no line of it is of the split train"),
        ("path,label", [], "no line of it is of the split train"),
    ],
)
def test_a_wrong_manifest_is_refused_by_its_line(tmp_path, header, rows, message):
    folder = tmp_path / "inside"
    write_grey(folder / "1.png")
    (folder / "sub").mkdir()
    write_grey(tmp_path / "outside" / "2.png")
    (folder / "link.png").symlink_to(tmp_path / "outside" / "2.png")
    (folder / "link to sub.png").symlink_to("sub")
    (folder / "away").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"data.root: .*pictures.csv.*" + message) as caught:
        scan(trees.manifest(folder, header, rows))
    assert "\n" not in str(caught.value)


def test_links_inside_a_manifests_folder_are_fine(tmp_path):
    write_grey(tmp_path / "a" / "1.png")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "2.png").symlink_to("a/1.png")
    assert len(scan(trees.manifest(tmp_path, "path,label", [("b/1.png", "ant"), ("2.png", "ant")])).pictures) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\n\xff,a\n", "is not UTF-8"),
        (b'path,label\n"1.png,a\n', "line 2: no CSV"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_csv_is_named(tmp_path, content, message):
    file = tmp_path / "p.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        scan(file)


# The table


def printed(table):
    console = Console(width=100, record=True, file=open(os.devnull, "w"))
    with console.file:
        console.print(table)
    return console.export_text()


def test_the_table_has_a_row_a_class_a_column_a_split_totals_and_what_was_left_out():
    pictures = [Picture(f"{n}.png", "[b]x", "train", "") for n in range(1200)]
    pictures += [Picture("t.png", "[b]x", "test", ""), Picture("u.png", "bee", "val", "")]
    left_out = [(f"[i]/{n}.png", "not among data.classes") for n in range(5)] + [("more/", "beside")]
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in printed(table_of(pictures, left_out)).split("\n")
    ]
    assert ["[b]x", "1,200", "0", "1", "1,201"] in lines
    assert ["bee", "0", "1", "0", "1"] in lines
    assert ["all", "1,200", "1", "1", "1,202"] in lines
    assert ["not among data.classes", "5: [i]/0.png, [i]/1.png, [i]/2.png, …"] in lines
    assert ["beside", "more/"] in lines


def test_the_table_shows_nothing_of_what_was_left_out_where_nothing_was():
    assert "left out" not in printed(table_of([Picture("1.png", "ant", "train", "")], []))


@pytest.mark.parametrize("where", ["", "Train", "Train/ant"])
def test_runs_are_no_data_wherever_they_lie(tmp_path, where):
    root = split_folders(tmp_path / "data", ("Train", "Test"))
    before = scan(root).pictures
    for stage in ("base", "polish"):
        run = root / where / "runs" / stage / "version_0"
        write_grey(run / "00000" / "default" / "sprite.png")
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "best.ckpt").touch()
        (run / "run.json").touch()
    found = scan(root)
    assert found.pictures == before
    assert found.left_out == [(f"{where}/runs/".removeprefix("/"), "a run of gfnet, no data"), *found.left_out[1:]]


def test_a_folder_of_runs_beside_the_data_does_not_hide_it(tmp_path):
    root = split_folders(tmp_path / "pictures", ("Train", "Test")).parent
    (root / "runs" / "base" / "version_0").mkdir(parents=True)
    (root / "runs" / "base" / "version_0" / "events.out.tfevents.1.host").touch()
    assert {picture.path.split("/")[0] for picture in scan(root).pictures} == {"pictures"}


def test_a_class_with_a_stray_checkpoint_stays_a_class(tmp_path):
    root = class_folders(tmp_path / "data")
    (root / "ant" / "old.ckpt").touch()
    assert {picture.label for picture in scan(root).pictures} == {"ant", "bee"}
