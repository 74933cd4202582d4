import numpy as np
import pytest
from scipy.stats import binomtest, t
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from gfnet_pl.evaluation.intervals import mcnemar, newcombe, wilson, wilson_of_groups


@pytest.mark.parametrize(("right", "images"), [(112, 112), (0, 7), (1, 1), (5431, 5600), (41, 97), (3, 4)])
def test_wilson_agrees_with_statsmodels(right, images):
    assert wilson(right, images) == pytest.approx(proportion_confint(right, images, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("right", "images"), [(112, 112), (0, 7), (1, 1), (5431, 5600), (41, 97), (3, 4)])
def test_wilson_agrees_with_scipy(right, images):
    theirs = binomtest(right, images).proportion_ci(method="wilson")
    assert wilson(right, images) == pytest.approx((theirs.low, theirs.high), abs=1e-14)


def test_112_right_of_112_still_allow_96_7_percent():
    assert wilson(112, 112) == (pytest.approx(0.96684, abs=1e-5), 1.0)


def test_the_ends_at_0_and_1_are_exact_whatever_the_rounding():
    for trials in range(1, 50):
        assert wilson(0, trials)[0] == 0
        assert wilson(trials, trials)[1] == 1


def test_without_a_trial_everything_is_possible():
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_covers_the_true_share_as_often_as_it_says():
    rng = np.random.default_rng(0)
    ends = [wilson(int(right), 200) for right in rng.binomial(200, 0.9, 2000)]
    assert 0.93 < np.mean([low <= 0.9 <= high for low, high in ends]) < 0.97


@pytest.mark.parametrize(("one", "other"), [((56, 70), (48, 80)), ((10, 10), (0, 20)), ((546, 560), (1147, 1344))])
def test_newcombe_agrees_with_statsmodels(one, other):
    ours = newcombe(*((right / images, *wilson(right, images)) for right, images in (one, other)))
    theirs = confint_proportions_2indep(*one, *other, method="newcomb")
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("count", [5, 8, 31, 1001])
def test_groups_without_spread_have_wilson_s_interval_with_the_quantile_of_student(count):
    expected = wilson(8 * count, 10 * count, t.ppf(0.975, count - 1))
    assert wilson_of_groups([(8, 10)] * count) == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_groups_is_that_of_korn_and_graubard_s_effective_number():
    rights = np.array([150, 160, 168, 120, 165, 158, 167, 140])
    share = rights.sum() / (8 * 168)
    variance = np.var(rights / 168, ddof=1) / 8  # of the mean of eight groups of equal size
    effective = share * (1 - share) / variance
    expected = proportion_confint(share * effective, effective, 2 * t.sf(t.ppf(0.975, 7), np.inf), method="wilson")
    found = wilson_of_groups([(int(right), 168) for right in rights])
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx((0.795899, 0.966374), abs=1e-6)


def test_groups_that_go_right_or_wrong_together_widen_the_interval():
    alone = wilson(80, 100)
    low, high = wilson_of_groups([(10, 10)] * 8 + [(0, 10)] * 2)  # ten groups, each all right or all wrong
    assert low < alone[0] - 0.2
    assert high > alone[1]
    even_low, even_high = wilson_of_groups([(8, 10)] * 10)  # no spread between groups
    assert alone[0] - 0.03 < even_low < alone[0]
    assert alone[1] < even_high < alone[1] + 0.03


def test_the_interval_of_groups_covers_the_share_of_all_groups_where_wilson_s_does_not():
    rng = np.random.default_rng(0)
    ours, plain = [], []
    for _ in range(500):
        shares = rng.beta(8, 2, 8)  # eight signers drawn from many, of whom 80 % of pictures go right
        rights = rng.binomial(168, shares)
        low, high = wilson_of_groups([(int(right), 168) for right in rights])
        ours.append(low <= 0.8 <= high)
        low, high = wilson(int(rights.sum()), 8 * 168)
        plain.append(low <= 0.8 <= high)
    assert np.mean(ours) > 0.9
    assert np.mean(plain) < 0.5


def test_few_groups_say_nothing_about_the_next():
    assert wilson_of_groups([(9, 10)] * 4) is None
    assert wilson_of_groups([(9, 10)] * 4 + [(0, 0)]) is None  # an empty group is no group


@pytest.mark.parametrize(("better", "worse"), [(31, 12), (12, 31), (0, 0), (5, 5), (1, 0), (900, 1200)])
def test_mcnemar_agrees_with_statsmodels(better, worse):
    theirs = statsmodels_mcnemar([[10, better], [worse, 10]], exact=True).pvalue
    assert mcnemar(better, worse) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("better", "worse"), [(31, 12), (0, 40), (5, 5), (5, 6), (900, 1200), (50_000, 50_600)])
def test_mcnemar_is_scipy_s_binomial_test(better, worse):
    assert mcnemar(better, worse) == pytest.approx(binomtest(better, better + worse).pvalue, rel=1e-9)
