import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from gfnet_pl.evaluation.calibration import Calibration, Rejection
from gfnet_pl.evaluation.figures import count_confusion, figures_table, gap, people, set_figures, worst_person

CLASSES = ["A", "B", "C", "D", "E"]


PLAIN = Calibration()


def figures(seed=0, images=400, calibration=PLAIN, groups=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, images)  # no picture of E
    logits = rng.normal(size=(images, 5)) + 1.5 * np.eye(5)[labels]
    return (
        logits,
        labels,
        set_figures(logits, labels, groups or [""] * images, CLASSES, calibration.judge(logits, logits)),
    )


def test_figures_agree_with_sklearn():
    logits, labels, found = figures()
    predicted = logits.argmax(1)
    assert found.confusion == confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert found.accuracy.share == (predicted == labels).mean()
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert found.macro_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.top3.share == pytest.approx(top_k_accuracy_score(labels, logits, k=3, labels=range(5)))
    precision, recall, f1, counts = precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0)
    for i, each in enumerate(found.classes.values()):
        assert each.precision.share == pytest.approx(precision[i])
        assert each.recall.images == counts[i]
        assert each.f1 == pytest.approx(f1[i])
        if counts[i]:
            assert each.recall.share == pytest.approx(recall[i])


def test_a_confusion_matrix_is_that_of_sklearn():
    labels, predictions = np.random.default_rng(0).integers(0, 4, (2, 300))
    found = count_confusion(labels, predictions, 5)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, confusion_matrix(labels, predictions, labels=range(5)))
    nothing = np.array([], np.int64)
    assert count_confusion(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("label", "prediction"), [(0, 2), (2, 0), (0, -1), (-1, 0)])
def test_a_class_out_of_range_is_refused_and_not_counted_as_another(label, prediction):
    with pytest.raises(ValueError, match="invalid entry"):
        count_confusion(np.array([label]), np.array([prediction]), 2)


def test_a_class_without_pictures_has_no_recall_and_does_not_count_in_the_mean():
    _, _, found = figures()
    missing = found.classes["E"]
    assert (missing.recall.share, missing.recall.low, missing.recall.high) == (None, 0, 1)
    assert missing.precision.share == 0  # some were taken for it
    shares = [each.recall.share for name, each in found.classes.items() if name != "E"]
    assert found.macro_accuracy == pytest.approx(np.mean(shares))


def test_one_picture_and_one_class_are_a_set_too():
    logits = np.array([[3.0]])
    found = set_figures(logits, np.array([0]), ["x"], ["only"], PLAIN.judge(logits, logits))
    assert (found.accuracy.share, found.top3.share, found.log_loss, found.new_groups) == (1, 1, 0, None)
    assert found.classes["only"].f1 == 1


def test_accuracy_by_group_and_none_over_groups_where_some_pictures_have_none():
    groups = [f"signer{index % 8}" for index in range(400)]
    logits, labels, found = figures(groups=groups)
    mine = [index for index in range(400) if index % 8 == 3]
    assert found.groups["signer3"].right == (logits.argmax(1) == labels)[mine].sum()
    assert found.groups["signer3"].images == 50
    assert found.new_groups is not None
    assert figures(groups=["", *groups[1:]])[2].new_groups is None


def test_a_threshold_is_applied_to_calibrated_probabilities_as_it_was_settled():
    calibration = Calibration(0.5, [Rejection(0.01, 0.8), Rejection(0.02, None)])
    logits, labels, found = figures(calibration=calibration)
    shares = np.exp(2 * logits) / np.exp(2 * logits).sum(1, keepdims=True)
    taken = shares.max(1) >= 0.8
    first, second = found.acceptance
    assert first.accepted.right == taken.sum()
    assert (first.wrong.right, first.wrong.images) == ((taken & (logits.argmax(1) != labels)).sum(), taken.sum())
    assert (second.accepted.right, second.wrong.share) == (0, None)


def test_the_gap_is_of_the_holdout_set_less_the_unseen_groups():
    sets = {name: figures(seed)[2] for seed, name in enumerate(("val", "holdout", "unseen"))}
    found = gap(sets, sets)
    assert (found.seen, found.unseen) == ("holdout", "unseen")
    assert found.difference == pytest.approx(sets["holdout"].accuracy.share - sets["unseen"].accuracy.share)
    assert found.low < found.difference < found.high
    assert gap({"val": sets["val"], "unseen": sets["unseen"]}, ["val"]).seen == "val"
    assert gap({"val": sets["val"]}, ["val"]) is None
    assert gap({"unseen": sets["unseen"]}, ["unseen"]) is None
    assert gap(sets, ["val"]).seen == "val"
    assert gap(sets, []) is None  # all were drawn by group: two sets of new people have no gap


def test_the_table_fits_80_columns_and_says_of_whom_each_figure_is(capsys):
    groups = [f"signer{index % 8}" for index in range(4_000)]
    sets = {
        "val": figures(0, 4_000, groups=groups)[2],
        "unseen": figures(1, 4_000, groups=groups)[2],
        "calibration": figures(2, 4_000)[2],
    }
    Console(width=80).print(figures_table(sets, ["val", "calibration"], title="run [x]", caption="data"))
    out = capsys.readouterr().out
    assert "…" not in out
    assert "run [x]" in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    val, unseen, calibration = (rows[name] for name in sets)
    assert val[1:4] == ["same", "4,000", f"{sets['val'].accuracy.right:,}"]
    assert (unseen[1], calibration[1]) == ("new", "-")
    accuracy, (low, high) = sets["val"].accuracy, sets["unseen"].new_groups
    assert val[5] == f"{100 * accuracy.low:.1f}-{100 * accuracy.high:.1f}"  # for other pictures of the same people
    assert unseen[5] == f"{100 * low:.1f}-{100 * high:.1f}"  # for new people
    assert (unseen[6], calibration[6]) == (f"{min(share.share for share in sets['unseen'].groups.values()):.0%}", "-")


def test_a_person_with_few_pictures_is_not_judged():
    few = figures(groups=[*["few"] * 9, *["a"] * 191, *["b"] * 200])[2]
    assert {name for name, _ in people(few)} == {"a", "b"}
    assert worst_person(few) == people(few)[0]
    assert worst_person(figures(groups=["one"] * 400)[2]) is None
