from pathlib import Path

import pytest
from conftest import CLASSES, write_picture

from gfnet_pl.data.layouts import pictures_in, scan
from gfnet_pl.errors import UserError


def test_split_folders_give_splits_and_classes_by_name(pictures):
    found = scan(pictures)
    assert {picture.split for picture in found} == {"train", "test", "unseen"}
    assert len([picture for picture in found if picture.split == "train"]) == 60
    for picture in found:
        assert (pictures / picture.path).parent.name == picture.label


def test_class_folders_alone_are_training_pictures(pictures):
    found = scan(pictures / "Train")
    assert {picture.split for picture in found} == {"train"}
    assert {picture.label for picture in found} == set(CLASSES)


def test_split_folders_in_any_case(tmp_path):
    write_picture(tmp_path / "TRAIN" / "ant" / "1.png", "ant", 1)
    write_picture(tmp_path / "val" / "ant" / "2.png", "ant", 2)
    assert {picture.split for picture in scan(tmp_path)} == {"train", "val"}


def test_unicode_spaces_and_upper_case_suffixes(tmp_path):
    write_picture(tmp_path / "größe Ä" / "a b.PNG", "ant", 1)
    (found,) = scan(tmp_path)
    assert (found.label, found.path) == ("größe Ä", "größe Ä/a b.PNG")


def test_hidden_files_other_files_and_link_loops_are_passed_over(tmp_path):
    write_picture(tmp_path / "ant" / "1.png", "ant", 1)
    write_picture(tmp_path / ".hidden" / "2.png", "ant", 2)
    write_picture(tmp_path / "ant" / ".3.png", "ant", 3)
    (tmp_path / "ant" / "notes.txt").write_text("x")
    (tmp_path / "ant" / "loop").symlink_to(tmp_path / "ant")
    assert [picture.path for picture in scan(tmp_path)] == ["ant/1.png"]
    assert pictures_in(tmp_path / "ant") == [tmp_path / "ant" / "1.png"]


def test_unknown_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data.root: .*nowhere is not a folder"):
        scan(tmp_path / "nowhere")


def test_class_folder_without_pictures_is_named(pictures):
    (pictures / "Train" / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no picture"):
        scan(pictures)


def test_folder_without_class_folders_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match="no class folder with pictures"):
        scan(tmp_path)


def test_class_that_only_a_test_folder_has_is_named(pictures):
    write_picture(pictures / "Test" / "dog" / "1.png", "ant", 1)
    with pytest.raises(UserError, match=r"'dog' has no folder in .*Train"):
        scan(Path(pictures))
