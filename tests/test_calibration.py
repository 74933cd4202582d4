import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss as sklearn_log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from gfnet_pl.evaluation.calibration import (
    Calibration,
    calibration_error,
    fit_temperature,
    judged_by_others,
    log_loss,
    probabilities,
    rejections,
    reliability,
)
from gfnet_pl.evaluation.familiarity import Familiarity
from gfnet_pl.evaluation.intervals import wilson


@pytest.fixture
def overconfident():
    """Logits of a net whose probabilities were right, had they been divided by 2."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    shares = probabilities(logits)
    labels = np.array([rng.choice(5, p=row) for row in shares])
    return 2 * logits, labels


def test_the_temperature_of_an_overconfident_net_is_found(overconfident):
    logits, labels = overconfident
    best = minimize_scalar(lambda value: log_loss(logits, labels, value), bounds=(0.1, 10), method="bounded")
    assert fit_temperature(logits, labels) == pytest.approx(best.x, rel=1e-4)
    assert fit_temperature(logits, labels) == pytest.approx(2, rel=0.05)


def test_the_loss_has_no_slope_at_the_temperature_found(overconfident):
    logits, labels = overconfident
    inverse = 1 / fit_temperature(logits, labels)
    expected = (softmax(logits * inverse, axis=1) * logits).sum(1)
    assert (expected - logits[np.arange(len(labels)), labels]).mean() == pytest.approx(0, abs=1e-9)


def test_a_temperature_out_of_range_is_cut_off():
    labels = np.array([0, 1] * 10)
    logits = np.eye(2)[labels]
    logits[0] = [0, 1e-9]  # one error by next to nothing: the colder, the better
    assert fit_temperature(logits, labels) == 0.05
    assert fit_temperature(np.eye(2)[np.r_[1 - labels[:19], labels[19]]], labels) == 20  # nearly all wrong


def test_calibrating_lowers_the_calibration_error(overconfident):
    logits, labels = overconfident
    errors = []
    for temperature in (1, fit_temperature(logits, labels)):
        shares = probabilities(logits, temperature)
        errors.append(calibration_error(reliability(shares.max(1), shares.argmax(1) == labels)))
    assert errors[0] > 0.1
    assert errors[1] < 0.03


def test_log_loss_agrees_with_sklearn_and_does_not_overflow(overconfident):
    logits, labels = overconfident
    assert log_loss(logits, labels) == pytest.approx(sklearn_log_loss(labels, probabilities(logits)), rel=1e-9)
    assert log_loss(np.array([[0.0, 2000.0]]), np.array([0])) == 2000
    assert str(log_loss(np.array([[0.0, 2000.0]]), np.array([1]))) == "0.0"  # and not -0.0


def test_probabilities_are_the_softmax_of_float32_logits_in_float64(overconfident):
    logits = overconfident[0].astype(np.float32)
    powers = np.exp(logits.astype(float) / 3)
    found = probabilities(logits, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-13)
    assert probabilities([[0.0, 2000.0]]).tolist() == [[0, 1]]


def test_calibration_error_agrees_with_torchmetrics(overconfident):
    logits, labels = overconfident
    shares = probabilities(logits)
    ours = calibration_error(reliability(shares.max(1), shares.argmax(1) == labels))
    theirs = multiclass_calibration_error(torch.from_numpy(shares), torch.from_numpy(labels), 5, n_bins=15)
    assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_calibration_error_agrees_with_torchmetrics_in_float64_without_probabilities_on_borders(overconfident):
    logits, labels = overconfident
    shares = probabilities(logits)
    confidence, right = shares.max(1), shares.argmax(1) == labels
    theirs = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right.astype(int)), n_bins=15)
    assert calibration_error(reliability(confidence, right)) == pytest.approx(theirs.item(), abs=1e-12)


def test_probabilities_of_one_share_the_last_bin_which_torchmetrics_gives_two():
    confidence = np.array([1.0] * 3 + [0.94] * 3)
    right = np.array([True, True, False, True, True, True])
    assert calibration_error(reliability(confidence, right)) == pytest.approx(0.97 - 5 / 6)
    theirs = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right.astype(int)), n_bins=15)
    assert theirs.item() == pytest.approx((1 / 3 + 0.06) / 2)  # if this fails, ours may be replaced by theirs


def test_a_probability_that_rounding_puts_above_1_or_at_0_is_in_a_bin():
    bins = reliability(np.array([np.nextafter(1, 2), 0.0]), np.array([True, False]))
    assert (bins[0].images, bins[-1].images) == (1, 1)


def test_the_bins_hold_every_picture_once():
    bins = reliability(np.array([1 / 15, 0.5, 1.0, 1.0]), np.array([True, False, True, False]))
    assert sum(each.images for each in bins) == 4
    assert (bins[0].images, bins[7].images, bins[14].images, bins[14].accuracy) == (1, 1, 2, 0.5)


@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 0, 0]])
def test_all_right_or_all_wrong_leaves_the_temperature_alone(labels):
    assert fit_temperature(np.array([[2.0, 0], [0, 3], [1, 4]]), np.array(labels)) == 1


def test_the_threshold_keeps_what_it_promises_at_the_upper_end_of_the_interval():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 3000)
    right = rng.uniform(size=3000) > 0.9 - confidence

    def bound(threshold):
        taken = confidence >= threshold
        return 1 - wilson(int(right[taken].sum()), int(taken.sum()))[0]

    found = rejections(confidence, right)
    for rate, threshold in found:
        assert bound(threshold) <= rate
        assert all(bound(lower) > rate for lower in confidence[confidence < threshold])  # it is the lowest
    assert found[0].threshold > found[1].threshold > found[2].threshold


def test_pictures_of_one_probability_are_taken_or_left_together():
    confidence = np.array([0.9] * 1000 + [0.5] * 1000)
    right = np.array([True] * 1000 + [True] * 500 + [False] * 500)
    assert {threshold for _, threshold in rejections(confidence, right)} == {0.9}


def test_a_hundred_right_pictures_are_too_few_to_promise_one_percent():
    found = {each.error_rate: each.threshold for each in rejections(np.full(100, 0.9), np.ones(100, bool))}
    assert found == {0.01: None, 0.02: None, 0.05: 0.9}
    assert all(each.threshold is None for each in rejections(np.array([]), np.array([], bool)))


def test_thresholds_are_of_calibrated_probabilities(overconfident):
    logits, labels = overconfident
    logits[:, 0] += 20 * (labels == 0)  # some pictures are sure
    calibration = Calibration.fit(logits, labels)
    assert calibration.promise.startswith("for the same people only")
    confidence = probabilities(logits, calibration.temperature).max(1)
    threshold = calibration.rejections[-1].threshold
    assert threshold in confidence


def test_with_groups_nine_of_ten_people_are_within_the_limit_at_the_threshold_and_above_it():
    rng = np.random.default_rng(0)
    groups = np.repeat([f"s{number:02}" for number in range(20)], 300)
    confidence = rng.uniform(0.3, 1, 6000)
    # Most people are mistaken with little confidence, one with much.
    right = (rng.uniform(size=6000) > 0.3) | (confidence > np.where(groups == "s00", 0.9, 0.6))

    # Line n: what each person has among the n + 1 pictures of the highest confidence.
    falling = np.argsort(-confidence)
    of_each = groups[falling, None] == sorted(set(groups))
    taken, wrong = np.cumsum(of_each, 0), np.cumsum(of_each & ~right[falling, None], 0)

    for rate, threshold in rejections(confidence, right, groups.tolist()):
        assert 0.4 < threshold < 0.9
        within = (wrong <= rate * taken).sum(1)
        accepted = np.sum(confidence >= threshold)
        assert all(within[:accepted] >= 19)
        assert within[accepted] < 19 or (wrong[accepted].sum() + 1) / (accepted + 2) > rate  # it is the lowest


def test_of_fewer_than_ten_people_each_one_counts():
    groups = np.tile(list("abcdefgh"), 200)
    confidence = np.linspace(1, 0.2, 1600)
    right = np.ones(1600, bool)
    assert rejections(confidence, right, groups.tolist())[0].threshold == confidence[-1]
    wrong = np.flatnonzero(groups == "c")[20]  # the first error of one person: 1 of 21, but only 1 of 170 over all
    right[wrong] = False
    found = rejections(confidence, right, groups.tolist())
    assert [each.threshold for each in found[:2]] == [confidence[wrong - 1]] * 2
    assert found[2].threshold == confidence[-1]  # 1 of 21 is less than 5 %


def test_people_are_not_counted_as_pictures():
    assert all(each.threshold is None for each in rejections(np.array([]), np.array([], bool), []))
    groups = [f"s{number % 6}" for number in range(98)]
    assert rejections(np.full(98, 0.9), np.ones(98, bool), groups)[0].threshold is None  # (0 + 1) / 99
    assert rejections(np.full(99, 0.9), np.ones(99, bool), [*groups, "s0"])[0].threshold == 0.9


@pytest.fixture
def people():
    """Logits, labels, groups and features of 8 people with 200 pictures each; "a" is mistaken with confidence."""
    rng = np.random.default_rng(0)
    groups = np.repeat(list("abcdefgh"), 200)
    labels = rng.integers(0, 5, 1600)
    shown = np.where((groups == "a") & (rng.uniform(size=1600) < 0.5), (labels + 1) % 5, labels)
    logits = 8 * np.eye(5)[shown] + rng.normal(0, 2, (1600, 5))
    return logits, labels, groups.tolist(), logits + rng.normal(size=(1600, 5))


def test_each_person_is_judged_by_a_calibration_of_the_others(people):
    logits, labels, groups, features = people
    learned = Familiarity.fit(features, labels)
    whole = Calibration.fit(logits, labels, groups, features, learned)
    judged = judged_by_others(whole, logits, labels, groups, features)
    assert judged.rejections == whole.rejections
    for name in "ag":
        mine = np.array(groups) == name
        others = Calibration.fit(
            logits[~mine], labels[~mine], [g for g in groups if g != name], features[~mine], learned
        )
        assert set(judged.temperature[mine, 0]) == {others.temperature}
        expected = others.judge(logits[mine], features[mine]).accepted
        np.testing.assert_array_equal(judged.accepted[:, mine], expected)
    wrong = logits.argmax(1) != labels
    # The others do not know of "a", whose errors are then accepted; in sample they would be turned away.
    assert (judged.accepted[0] & wrong).sum() > 50 > (whole.judge(logits, features).accepted[0] & wrong).sum()


def test_a_verdict_is_yes_no_or_unknown_and_has_a_reason(people):
    logits, labels, groups, features = people
    good = np.array(groups) != "a"
    fitted = Calibration.fit(
        logits[good],
        labels[good],
        [name for name in groups if name != "a"],
        features[good],
        Familiarity.fit(features, labels),
    )
    sure, unsure = np.array([[90.0, 0, 0, 0, 0]]), np.array([[0.1, 0, 0, 0, 0]])
    at_home, away = features[labels == 0].mean(0)[None], np.full((1, 5), 1e3)
    assert fitted.promise == "for new people: fitted on 7 whom training never saw"
    assert fitted.verdicts(sure, at_home) == [("yes", "")]
    assert fitted.verdicts(unsure, at_home) == [("no", "too uncertain")]
    assert fitted.verdicts(sure, away) == [("no", "unlike the training pictures")]
    impossible = fitted._replace(rejections=[fitted.rejections[0]._replace(threshold=None)])
    assert impossible.verdicts(sure, at_home) == [("unknown", "no threshold keeps errors below 1 %")]
    assert Calibration().verdicts(sure, at_home) == [("unknown", "not calibrated")]
    assert Calibration().promise == "not calibrated"
    kept = fitted.familiar(features[good])[logits[good].argmax(1) == labels[good]].mean()
    assert kept == pytest.approx(0.95, abs=0.002)
