import logging

import pytest

from gfnet_pl.data.group_table import of_groups, read_group_table
from gfnet_pl.errors import UserError


def written(folder, text):
    file = folder / "people.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_any_columns_are_taken_in_any_order(tmp_path):
    file = written(tmp_path, "\ufeffhand,group,age\nleft, anna ,31\nright,ben,\n\n")
    assert read_group_table(file) == {"anna": {"hand": "left", "age": "31"}, "ben": {"hand": "right", "age": ""}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,hand\nanna,left\n", "needs a column group and others, and has who,hand"),
        ("group\nanna\n", "needs a column group and others"),
        ("group,hand\nanna,left\nanna,right\n", "has the group 'anna' twice"),
        ("group,hand\nanna\n", "line 2: 1 values for 2 columns"),
        ('group,hand\nanna,"left\n', "no CSV"),
        ("group,hand\n", "has no row"),
        ("", "has no row"),
        (b"group,hand\nann\xe9,left\n", "is not UTF-8"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as error:
        read_group_table(written(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gone.csv", "."])
def test_a_table_that_cannot_be_read_says_how_to_go_without(tmp_path, name):
    with pytest.raises(UserError, match=r"data.group_table null to go without"):
        read_group_table(tmp_path / name)


@pytest.mark.parametrize(
    ("groups", "kept", "said"),
    [
        (["anna", "ben"], ["anna", "ben"], ""),
        (["anna", ""], ["anna"], "has rows of ben, which the data do not have"),
        (["anna", "ben", "carl"], ["anna", "ben"], "has no row of carl"),
        (["x", "y"], [], "has no row of 2 groups, first x and has rows of 2 groups, first anna, which the data do not"),
        ([""], [], "is not used: the data have no groups"),
    ],
)
def test_groups_without_a_row_and_rows_without_a_group_are_one_line_and_the_others_are_kept(
    tmp_path, caplog, groups, kept, said
):
    table = {"anna": {"hand": "left"}, "ben": {"hand": "right"}}
    with caplog.at_level(logging.WARNING):
        assert list(of_groups(table, groups, tmp_path)) == kept
    assert len(caplog.messages) == bool(said)
    assert said in caplog.text
