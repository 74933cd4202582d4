"""Files that hold many pictures each, as data and as what to predict."""

import csv
import gzip
import os
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trees
import yaml
from conftest import QUIET, TINY_NET
from PIL import Image
from test_archive import zipped

from gfnet_pl.cli import find_config, main
from gfnet_pl.data import archive
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import classes_in, collect
from gfnet_pl.data.decode import open_picture, read_picture
from gfnet_pl.data.layouts import scan
from gfnet_pl.data.named import find_pictures
from gfnet_pl.data.packed import class_order, renamed
from gfnet_pl.data.splits import read_splits
from gfnet_pl.errors import UserError

LETTERS = {"A", "B", "C"}
NUMBERS = {str(number) for number in range(12)}
SIGNS = {str(number) for number in range(13)} - {"9"}
FASHION = Path("/usr/share/datasets/fashion-mnist")


def splits(found):
    return dict(Counter(picture.split for picture in found.pictures))


def pixels_of(path, side=5, **canvas):
    return read_picture(Path(path), Canvas(side, side, **canvas))


@pytest.mark.parametrize(
    ("layout", "classes", "counts", "file"),
    [
        (trees.mnist, NUMBERS, {"train": 36, "test": 12}, "t10k-images-idx3-ubyte.gz"),
        (trees.emnist, LETTERS, {"train": 9, "test": 3}, "emnist-letters-train-images-idx3-ubyte.gz"),
        (trees.sign_mnist, SIGNS, {"train": 36, "test": 12}, "sign_mnist_train.csv"),
        (trees.medmnist, {"0", "1", "2"}, {"train": 6, "val": 3, "test": 4}, "pathmnist.npz"),
        (trees.arrays, {"bée", "ant"}, {"train": 8, "val": 2, "test": 2}, "mine.npz"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_packed_layout_is_read_from_its_folder_the_one_above_a_file_and_a_zip(
    tmp_path, layout, classes, counts, file
):
    top = tmp_path / "top"
    layout(top / "a" / "data")
    found = scan(top / "a" / "data")
    assert ({picture.label for picture in found.pictures}, splits(found)) == (classes, counts)
    for picture in found.pictures:
        index, before = int(picture.path.rpartition("#")[2]), {"val": 6, "test": 9} if layout is trees.medmnist else {}
        assert np.asarray(open_picture(found.folder / picture.path)).flat[0] == index - before.get(picture.split, 0)
    assert scan(top / "a" / "data" / file).pictures == found.pictures
    below = [picture._replace(path=f"a/data/{picture.path}") for picture in found.pictures]
    assert scan(top).pictures == below
    assert len(collect(str(zipped(top, tmp_path / "a.zip")), canvas=Canvas(5, 5)).pictures) == len(below)


def test_pictures_are_those_of_the_file_and_a_table_of_them_has_the_order_of_numbers(tmp_path):
    trees.mnist(tmp_path)
    found = collect(str(tmp_path), canvas=Canvas(5, 5))
    expected = {f"train-images-idx3-ubyte.gz#{i}": pixels for i, pixels in enumerate(trees.stack(36))}
    expected |= {f"t10k-images-idx3-ubyte.gz#{i}": pixels for i, pixels in enumerate(trees.stack(12))}
    for picture, row in zip(found.pictures, found.rows, strict=True):
        assert np.array_equal(found.images[row], expected[picture.path])
    assert class_order(found.pictures) == classes_in(str(tmp_path)) == [str(number) for number in range(12)]


def test_emnist_is_turned_upright_and_colours_become_grey_as_those_of_pictures(tmp_path):
    trees.emnist(tmp_path)
    upright = read_picture(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz#8", Canvas(6, 4))
    assert np.array_equal(upright, trees.stack(9, (4, 6))[8].T)
    trees.medmnist(tmp_path)
    pixels = trees.stack(4, (5, 5, 3), 2)[3]
    assert np.array_equal(pixels_of(tmp_path / "pathmnist.npz#12", colour=True), pixels)
    assert np.array_equal(pixels_of(tmp_path / "pathmnist.npz#12"), np.asarray(Image.fromarray(pixels).convert("L")))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("Train_Images_idx3_ubyte", "Train_labels_idx1_ubyte.gz"),
        ("qmnist-train-images-idx3-ubyte.gz", "qmnist-train-labels-idx1-ubyte.gz"),
    ],
)
def test_the_files_of_idx_are_known_by_the_names_they_come_with(tmp_path, images, labels):
    trees.write_idx(tmp_path / images, trees.stack(4))
    trees.write_idx(tmp_path / labels, np.array([0, 1, 0, 1]))
    assert [picture.label for picture in scan(tmp_path).pictures] == ["0", "1", "0", "1"]


def test_of_the_same_pictures_in_several_forms_one_is_taken_and_the_others_are_listed(tmp_path):
    trees.mnist(tmp_path)
    plain = trees.write_idx(tmp_path / "train-images-idx3-ubyte", trees.stack(36))
    trees.write_pixels(tmp_path / "fashion-mnist_train.csv", trees.stack(3), "012")
    trees.sign_mnist(tmp_path)
    found = scan(tmp_path)
    assert {picture.path.partition("#")[0] for picture in found.pictures} == {plain.name, "t10k-images-idx3-ubyte.gz"}
    assert {name for name, _ in found.left_out} == {
        "train-images-idx3-ubyte.gz",
        "fashion-mnist_train.csv",
        "sign_mnist_train.csv",
        "sign_mnist_test.csv",
        "sign_mnist_train/",
        "sign_mnist_test/",
        "amer_sign2.png",
    }


def test_of_several_sets_in_a_folder_one_file_says_which(tmp_path):
    trees.emnist(tmp_path, "emnist-letters")
    trees.emnist(tmp_path, "emnist-balanced")
    with pytest.raises(UserError, match="has 2 data sets; give a file of the one to take: emnist-balanced-test-images"):
        scan(tmp_path)
    found = scan(tmp_path / "emnist-letters-test-images-idx3-ubyte.gz")
    assert splits(found) == {"train": 9, "test": 3}
    assert all(picture.path.startswith("emnist-letters") for picture in found.pictures)


def test_a_csv_may_have_no_header_its_label_last_or_names_for_labels(tmp_path):
    images = trees.stack(4)
    trees.write_pixels(tmp_path / "a" / "train.csv", images, [3, 0, 3, 0], header=False)
    assert [picture.label for picture in scan(tmp_path / "a").pictures] == ["3", "0", "3", "0"]
    rows = [[*image.ravel().tolist(), label] for image, label in zip(images, ("bee", "ant", "bee", "ant"), strict=True)]
    lines = [[*(f"p{n}" for n in range(25)), "Label"], *rows]
    text = "\ufeff" + "\r\n".join(",".join(map(str, line)) for line in lines)
    (tmp_path / "b.csv").write_text(text, encoding="utf-8", newline="")
    assert [picture.label for picture in scan(tmp_path / "b.csv").pictures] == ["bee", "ant", "bee", "ant"]
    assert np.array_equal(pixels_of(tmp_path / "b.csv#2"), images[2])


def test_a_manifest_stays_one_and_class_folders_come_first(tmp_path):
    file = trees.manifest(tmp_path / "a")
    assert len(scan(file).pictures) == 12
    trees.class_folders(tmp_path / "b")
    trees.mnist(tmp_path / "b")
    assert all(picture.path.endswith(".png") for picture in scan(tmp_path / "b").pictures)


def test_classes_that_are_numbers_are_named_or_chosen_in_their_order(tmp_path):
    trees.sign_mnist(tmp_path)
    names = list("ABCDEFGHIKLM")  # no J, as there is no 9
    found = scan(tmp_path, names)
    train = [picture for picture in found.pictures if picture.split == "train"]
    assert [picture.label for picture in train[:12]] == names
    assert {picture.label for picture in scan(tmp_path, ["10", "0"]).pictures} == {"10", "0"}
    assert {picture.label for picture in scan(tmp_path, names, known=names).pictures} == set(names)
    with pytest.raises(
        UserError, match=r"data.classes has 2 names, and the data 12 classes, 0 to 12; name all of them"
    ):
        scan(tmp_path, ["A", "B"])


def test_groups_and_keras_names_of_an_npz_are_taken(tmp_path):
    found = scan(trees.arrays(tmp_path, labels=np.array(["bée", "ant"] * 6)))
    assert [picture.group for picture in found.pictures] == [str(number // 2) for number in range(12)]
    assert [picture.label for picture in found.pictures[:2]] == ["bée", "ant"]
    np.savez(tmp_path / "mine.npz", x_train=trees.stack(4), y_train=np.arange(4) % 2, x_test=trees.stack(1), y_test=[1])
    assert splits(scan(tmp_path)) == {"train": 4, "test": 1}


def test_it_is_unpacked_once_and_a_changed_file_is_read_again(tmp_path, caplog):
    caplog.set_level("INFO")
    trees.arrays(tmp_path / "data")
    for _ in range(2):
        collect(str(tmp_path / "data"), canvas=Canvas(5, 5))
    assert caplog.text.count("unpacked into") == 1
    trees.arrays(tmp_path / "data", images=trees.stack(12, seed=5))
    os.utime(tmp_path / "data" / "mine.npz", (1, 1))
    found = collect(str(tmp_path / "data"), canvas=Canvas(5, 5))
    assert np.array_equal(found.images[found.rows[3]], trees.stack(12, seed=5)[3])


def test_predict_takes_a_packed_file_one_picture_of_it_and_a_folder(tmp_path):
    trees.sign_mnist(tmp_path)
    file = tmp_path / "sign_mnist_test.csv"
    assert find_pictures([str(file)]) == [Path(f"{file}#{number}") for number in range(12)]
    assert find_pictures([f"{file}#3"]) == [Path(f"{file}#3")]
    trees.mnist(tmp_path / "more")
    assert len(find_pictures([str(tmp_path / "more")])) == 48
    (tmp_path / "more" / "train-labels-idx1-ubyte.gz").unlink()  # not needed to predict
    assert len(find_pictures([str(tmp_path / "more" / "train-images-idx3-ubyte.gz")])) == 36
    with pytest.raises(UserError, match=r"#12 cannot be read as a picture .the file has 12 pictures"):
        pixels_of(f"{file}#12")


def test_a_run_on_packed_pictures_is_trained_tested_and_predicts_them(tmp_path, workplace, capsys):
    labels = np.arange(48) % 2
    images = trees.stack(48, (16, 16)) // 2 + (labels * 100).astype(np.uint8)[:, None, None]
    split = np.array(["train"] * 40 + ["test"] * 8)
    file = trees.arrays(tmp_path / "data", images=images, labels=labels, split=split, groups=None) / "mine.npz"
    options = [
        *TINY_NET,
        *QUIET,
        "--trainer.max_epochs=1",
        "--data.epoch_size=32",
        "--model.warmup_epochs=0",
        "--data.batch_size=8",
    ]
    assert main(["fit", str(file), *options]) == 0
    run = workplace / "runs" / "auto" / "version_0"
    rows = {picture.path: picture for picture in read_splits(run / "splits.csv")}
    assert Counter(picture.split for picture in rows.values()) == {"train": 32, "val": 8, "test": 8}
    assert rows["mine.npz#47"][1:] == ("ant", "test", "")
    assert main(["test", *QUIET]) == 0
    Image.fromarray(images[47]).save(tmp_path / "47.png")
    assert main(["predict", str(tmp_path / "47.png"), f"{file}#47", str(file)]) == 0
    with (workplace / "predictions.csv").open(encoding="utf-8") as stream:
        predicted = list(csv.DictReader(stream))
    assert len(predicted) == 50
    assert [{**row, "path": ""} for row in predicted[:2]] == [{**predicted[-1], "path": ""}] * 2
    assert main(["audit", str(file)]) == 0
    file.unlink()
    capsys.readouterr()
    assert main(["test", *QUIET]) == 2
    assert "mine.npz does not exist; if the pictures have moved" in capsys.readouterr().err


# What is wrong: one line, and nothing is left in the cache

IDX, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
ARRAY = {"classes": None, "split": None, "groups": None}


def idx(folder, harm=lambda content: content, name=IDX, labels=4):
    """Four pictures, one of the two files harmed."""
    trees.write_idx(folder / IDX, trees.stack(4))
    trees.write_idx(folder / LABELS, np.arange(labels) % 2)
    content = harm((folder / name.removesuffix(".gz")).read_bytes())
    (folder / name.removesuffix(".gz")).unlink()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def idx_of(*sizes):
    return lambda content: struct.pack(">4B3I", 0, 0, 8, 3, *sizes) + content[16:]


def csv_of(*lines, head=("label", *(f"pixel{n}" for n in range(9)))):
    def write(folder):
        folder.mkdir()
        (folder / "train.csv").write_text("\n".join([",".join(head), *lines]), encoding="utf-8")
        return folder

    return write


def npz_of(**values):
    return lambda folder: trees.arrays(folder, **ARRAY | values)


def cut_npz(folder):
    file = trees.arrays(folder) / "mine.npz"
    content = bytearray(file.read_bytes())
    content[260] ^= 1
    file.write_bytes(content)
    return folder


def lying_npz(folder):
    """Its header claims more pictures than there are."""
    trees.arrays(folder)
    with zipfile.ZipFile(folder / "mine.npz") as file:
        arrays = {name: file.read(name) for name in file.namelist()}
    arrays["images.npy"] = arrays["images.npy"].replace(b"(12, 5, 5)", b"(99, 5, 5)")
    with zipfile.ZipFile(folder / "mine.npz", "w") as file:
        for name, content in arrays.items():
            file.writestr(name, content)
    return folder


def emnist_without(line):
    def write(folder):
        mapping = trees.emnist(folder) / "emnist-letters-mapping.txt"
        mapping.write_text(mapping.read_text(encoding="ascii").replace(line, ""), encoding="ascii")
        return folder

    return write


ROW = "0,1,2,3,4,5,6,7,8,9"
WRONG = {
    "cut": (lambda f: idx(f, lambda c: c[:-7]), "is cut short: its header says 116 bytes, and it has 109"),
    "cut to a few bytes": (lambda f: idx(f, lambda c: c[:9]), "is no IDX file of pictures"),
    "too long": (lambda f: idx(f, lambda c: c + b"x"), "is too long: its header says 116 bytes"),
    "header that lies": (lambda f: idx(f, idx_of(2**32 - 1, 2**16, 2**16)), "is cut short: its header says 18,4"),
    "no side": (lambda f: idx(f, lambda c: idx_of(4, 0, 5)(c)[:16]), "holds nothing: its header says 4 x 0 x 5"),
    "other file": (lambda f: idx(f, lambda c: b"GIF89a" + c), "begins with 47 49 46 38; get it again"),
    "cut inside of a gzip": (lambda f: idx(f, lambda c: c[:-7], f"{IDX}.gz"), "cut short: 3 of its 4 pictures"),
    "gzip goes on": (lambda f: idx(f, lambda c: c + b"x", f"{IDX}.gz"), "goes on behind what its header says"),
    "gzip that lies": (lambda f: idx(f, idx_of(2**31, 2**16, 2**16), f"{IDX}.gz"), "would unpack from"),
    "labels cut": (lambda f: idx(f, lambda c: c[:-1], LABELS), "labels-idx1-ubyte is cut short"),
    "labels cut in a gzip": (lambda f: idx(f, lambda c: c[:-1], f"{LABELS}.gz"), "3 of its 4 labels are there"),
    "fewer labels": (lambda f: idx(f, labels=3), "has 4 pictures, and train-labels-idx1-ubyte 3 labels"),
    "label without a name": (emnist_without("2 66 98\n"), "has the label 2, which emnist-letters-mapping.txt has not"),
    "odd mapping": (emnist_without("65 97"), "expected lines of a label and the code"),
    "no square": (
        csv_of(ROW + ",10", head=("label", *map(str, range(10)))),
        "has 10 columns of pixels, which is no square",
    ),
    "short line": (csv_of(ROW, "1,2,3"), "train.csv, line 3: 2 pixels instead of 9"),
    "only a label": (csv_of(ROW, "1"), "train.csv, line 3: 1 pixels instead of 9"),
    "all lines short": (csv_of("1,2,3", "1,2,3"), "train.csv, line 2: 2 pixels instead of 9"),
    "pixel above 255": (csv_of(ROW, "", "0,1,2,3,4,5,6,7,8,256"), "line 4: a pixel is '256'; they are whole numbers"),
    "pixel that is a fraction": (csv_of("0,1,2,3,4,5,6,7,8,0.5"), "line 2: a pixel is '0.5'"),
    "label below 0": (csv_of(ROW, "-1" + ROW[1:]), "line 3: the label is -1; labels are names, or numbers from 0"),
    "no pixels at all": (csv_of("a.png,ant", head=["file", "label", *"abcdefghij"]), "no class folder with pictures"),
    "label in the middle": (csv_of(ROW, head=[*"123", "label", *"456789"]), "the label is column 4 of 10; put it"),
    "no label": (
        csv_of(",".join("1" * 16), head=[f"pixel{n}" for n in range(16)]),
        "train.csv#0 has no label; give its labels",
    ),
    "empty csv": (csv_of(), "holds no picture"),
    "objects": (npz_of(images=np.array([np.zeros(2), None] * 6, object)), "images holds Python objects, which are"),
    "object labels": (npz_of(labels=np.array(["a", None] * 6, object)), "labels holds Python objects"),
    "floats": (npz_of(images=trees.stack(12) / 255), "images is of float64; save grey levels or colours, 0 to 255"),
    "three dimensions": (npz_of(images=trees.stack(12, (5, 5, 5, 1))), "images is 12 x 5 x 5 x 5 x 1; it must be N x"),
    "columns": (npz_of(images=np.asfortranarray(trees.stack(12))), "images is stored column by column"),
    "mixed sizes": (
        lambda f: npz_of(images=None, labels=None, train_images=trees.stack(2), test_images=trees.stack(2, (5, 6)))(f),
        "has pictures of 5 x 5 and 5 x 6; give them one size",
    ),
    "labels missing": (npz_of(labels=np.arange(11)), "labels has 11 values for 12 pictures"),
    "no labels": (npz_of(labels=None), "mine.npz#0 has no label; give its labels: in a file beside it"),
    "several labels": (npz_of(labels=np.zeros((12, 14), int)), "labels is 12 x 14; one value for each picture"),
    "label outside": (npz_of(classes=np.array(["ant"])), "labels has the label 1, and 1 classes are named"),
    "name outside": (
        npz_of(labels=np.array(["ant", "fly"] * 6), classes=np.array(["ant"])),
        "labels has the label 'fly', which is not among the classes",
    ),
    "negative": (npz_of(labels=np.arange(12) - 1), "labels has the label -1, and they count from 0"),
    "fractions": (npz_of(labels=np.arange(12) / 2), "labels is of float64; whole numbers or names are needed"),
    "other split": (npz_of(split=np.array(["train"] * 11 + ["tset"])), "mine.npz#11 is of the split 'tset'; there are"),
    "other arrays": (npz_of(images=None, labels=None, data=trees.stack(2)), "has the arrays data; expected images and"),
    "damaged": (cut_npz, "Bad CRC-32"),
    "npz that lies": (lying_npz, "images is cut short or longer than it says: 300 bytes instead of 2,475"),
    "only a test file": (
        lambda f: trees.write_pixels(f / "a_test.csv", trees.stack(2), "01").parent,
        "nothing there is for training",
    ),
    "two of a split": (
        lambda f: [trees.write_pixels(f / n, trees.stack(2), "01") for n in ("a_test.csv", "test_a.csv")] and f,
        "has a_test.csv and test_a.csv, both of the split test; keep one",
    ),
}


@pytest.mark.parametrize(("write", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_packed_file_is_one_line(tmp_path, write, message):
    with pytest.raises(UserError, match=message) as error:
        scan(write(tmp_path / "data"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_gzip_that_unpacks_to_far_more_than_pictures_do_is_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LEAST", 10_000)
    trees.write_idx(tmp_path / f"{IDX}.gz", np.zeros((1000, 50, 50), np.uint8))
    with pytest.raises(UserError, match=r"would unpack from 2,\d\d\d to 2,500,016 bytes"):
        scan(tmp_path)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((1000, 50, 50), np.uint8), labels=np.zeros(1000, int))
    with pytest.raises(UserError, match=r"would unpack from .* bytes"):
        scan(tmp_path / "a.npz")
    assert not list((tmp_path / "cache").rglob("pixels"))


def test_a_pickle_named_npz_is_not_loaded(tmp_path):
    ran = tmp_path / "ran"
    payload = f"cos\nmkdir\n(S'{ran}'\ntR.".encode()
    (tmp_path / "evil.npz").write_bytes(payload)
    with pytest.raises(UserError, match=r"evil.npz is damaged"):
        scan(tmp_path)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as file:
        file.writestr("images.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + payload)
    with pytest.raises(UserError, match="holds Python objects"):
        scan(tmp_path)
    assert not ran.exists()


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_read_where_debian_puts_it():
    found = scan(FASHION)
    counts = Counter((picture.label, picture.split) for picture in found.pictures)
    assert counts == {(str(n), split): count for n in range(10) for split, count in (("train", 6000), ("test", 1000))}
    assert [picture.label for picture in found.pictures if "t10k" in picture.path][:4] == ["9", "2", "1", "1"]
    names = yaml.safe_load(find_config("fashion-mnist.yaml").read_text(encoding="utf-8"))["data"]["classes"]
    named = renamed(found.pictures, names, whole=True)
    first = [picture.label for picture in named if "t10k" in picture.path][:4]
    assert first == ["Ankle boot", "Pullover", "Trouser", "Trouser"]
