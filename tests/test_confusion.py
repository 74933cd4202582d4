"""A run's confusion matrix, and how often classes are drawn because of it."""

import numpy as np
import pytest

from gfnet_pl.errors import UserError
from gfnet_pl.run.confusion import confusion_emphasis, write_confusion
from gfnet_pl.run.folder import RunFolder


def test_emphasis_from_a_run_is_largest_where_most_goes_wrong(tmp_path):
    confusion = np.array([[10, 0, 0], [0, 6, 4], [0, 0, 10]])
    write_confusion(RunFolder(tmp_path), ["a", "b, c", "d"], confusion)
    assert confusion_emphasis(RunFolder(tmp_path)) == {"a": 1.0, "b, c": 2.0, "d": 2.0}
    write_confusion(RunFolder(tmp_path), ["a", "b, c", "d"], np.diag([5, 5, 5]))
    assert set(confusion_emphasis(RunFolder(tmp_path)).values()) == {1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("a,b\n1\n", "cannot be read"), ("", "cannot be read"), ("a,b\na,9" + "9" * 20, "read")],
)
def test_a_run_without_a_confusion_matrix_is_named(tmp_path, text, message):
    if text is not None:
        RunFolder(tmp_path).confusion.write_text(text)
    with pytest.raises(UserError, match=f"emphasis_from.*{message}|{message}.*emphasis_from"):
        confusion_emphasis(RunFolder(tmp_path))
