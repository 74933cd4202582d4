import numpy as np
import pytest

from gfnet_pl.evaluation.tendencies import FEWEST_GROUPS, tendencies


def people(count, seed, *, of_light=0.0):
    """Accuracies that depend on the light by so much, and properties by chance."""
    random = np.random.default_rng(seed)
    light = random.permutation(count) / count
    accuracy = (0.8 + of_light * light + 0.03 * random.standard_normal(count)).clip(0, 1)
    rows = {
        f"p{i}": {"light": f"{light[i]:.3f}", "age": str(20 + i), "hand": "left" if i % 4 == 0 else "right"}
        | {f"noise{k}": f"{random.random():.3f}" for k in range(7)}
        for i in range(count)
    }
    return dict(zip(rows, accuracy.tolist(), strict=True)), rows


def test_what_goes_with_failures_stands_out_and_nothing_else_does():
    first, *others = tendencies(*people(16, 0, of_light=0.2))
    assert first.name == "light" and first.stands_out
    assert 0 < first.low < first.correlation < first.high <= 1
    assert first.more - first.less > 0.06 and first.groups == 8
    assert not any(other.stands_out for other in others)
    assert {other.name for other in others} >= {"age", "hand: left"}
    assert "hand: right" not in {other.name for other in others}  # it says the same


def test_where_nothing_matters_the_best_of_many_stands_out_no_more_than_once_in_twenty():
    found = [tendencies(*people(16, seed))[0].by_chance for seed in range(14)]
    assert sum(share < 0.05 for share in found) <= 2
    assert 0.3 < np.mean(found) < 0.7  # of the single largest it would be 0.1


def test_a_text_is_compared_value_by_value():
    accuracy = {f"p{i}": (0.5 if i % 4 == 0 else 0.9) + 0.001 * i for i in range(16)}
    rows = {f"p{i}": {"camera": ("old", "a", "b", "a")[i % 4], "name": f"p{i}"} for i in range(16)}
    first = tendencies(accuracy, rows)[0]
    assert (first.name, first.is_number, first.groups) == ("camera: old", False, 4)
    assert first.more == pytest.approx(0.506) and first.correlation < -0.7
    assert not any(each.name.startswith("name") for each in tendencies(accuracy, rows))


@pytest.mark.parametrize("case", ["few", "equal", "lacking", "same", "infinite"])
def test_nothing_is_said_where_nothing_can_be(case):
    accuracy, rows = people(FEWEST_GROUPS - (case == "few"), 0)
    rows = {name: {"light": row["light"]} for name, row in rows.items()}
    if case == "equal":
        accuracy = dict.fromkeys(accuracy, 0.5)
    else:
        for name in list(rows)[: {"lacking": 1, "infinite": 1, "same": 99}.get(case, 0)]:
            rows[name] = {"light": {"lacking": "", "infinite": "inf", "same": "1"}[case]}
    assert tendencies(accuracy, rows) == []
