"""What the page shows of each evaluated set: its row among the others, its classes, its people, its probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gfnet_pl.data.group_table import Properties
from gfnet_pl.evaluation.figures import People, Promise, SetFigures, Share, people, worst_person
from gfnet_pl.report import charts
from gfnet_pl.report.charts import Interval
from gfnet_pl.report.people import of_people, tendency_words
from gfnet_pl.report.words import NONE, confusion_words, people_words, percent, promise_words, trust_words
from gfnet_pl.run.results import Results

MOST_PEOPLE = 24
_ONE_COLUMN = 8  # people
_PEOPLE = {People.NEW: "new", People.SAME: "the same", People.UNKNOWN: "not known"}
_NO_GROUPS = "Who is on these pictures is not known: data.group_by says which pictures belong together."


def of_sets(results: Results, names: Sequence[str], leaks: Mapping[str, float]) -> dict[str, Any]:
    """Computes what the page shows of each set.

    Args:
        results: The results of the run.
        names: The sets, in the order of the page.
        leaks: The share of each set's pictures that have a near twin in training; empty if it is not known.

    Returns:
        Values for the template, by name.
    """
    figures = {name: results.figures[name] for name in names}
    promises = {name: Promise.of(name, each, results.known) for name, each in figures.items()}
    rows = [_row(name, each, promises[name]) for name, each in figures.items()]
    return {
        "sets": [_of_set(name, each, results.classes, results.properties) for name, each in figures.items()],
        "set_chart": Markup(charts.interval_chart(rows)),
        "show_people": any(row.members for row in rows),
        "measures": [(title, list(cells)) for title, *cells in _measures(figures, promises, leaks)],
    }


def _row(name: str, each: SetFigures, promise: Promise) -> Interval:
    accuracy = each.accuracy
    worst = worst_person(each) if promise.people is People.NEW else None
    members = [share.share or 0.0 for _, share in people(each)] if worst else []
    words = f"{promise_words(promise)}, {accuracy.right:,} of {accuracy.images:,}"
    return Interval(
        label=name,
        share=accuracy.share,
        ends=(promise.low, promise.high),
        note=percent(accuracy.share, 1),
        words=words,
        remark=f"worst person {percent(worst[1].share)}" if worst else "",
        members=members,
    )


def _measures(
    figures: Mapping[str, SetFigures], promises: Mapping[str, Promise], leaks: Mapping[str, float]
) -> list[tuple[str, ...]]:
    """A row for each measure: its title, and a cell for each set."""
    each, promised = figures.values(), promises.values()
    worst = [worst_person(of) for of in each]
    return [
        ("people", *(_PEOPLE[of.people] for of in promised)),
        ("pictures", *(f"{of.accuracy.images:,}" for of in each)),
        ("right", *(f"{of.accuracy.right:,}" for of in each)),
        ("accuracy", *(percent(of.accuracy.share, 2) for of in each)),
        ("95 % interval", *(f"{100 * of.low:.1f} to {percent(of.high, 1)}" for of in promised)),
        ("worst person", *(f"{percent(of[1].share)} {of[0]}" if of else NONE for of in worst)),
        ("mean over classes", *(percent(of.macro_accuracy, 1) for of in each)),
        ("among the top 3", *(percent(of.top3.share, 1) for of in each)),
        ("log loss", *(f"{of.log_loss:.3f}" for of in each)),
        ("calibration error", *(f"{of.calibration_error:.3f}" for of in each)),
        (
            "near twin in training",
            *(f"at least {percent(leaks[name])}" if name in leaks else NONE for name in figures),
        ),
    ]


def _of_set(name: str, each: SetFigures, classes: Sequence[str], properties: Properties) -> dict[str, Any]:
    found = of_people(each, properties)
    everyone = sorted(each.groups.items(), key=lambda item: (item[1].share or 0, item[0]))
    shown = everyone[:MOST_PEOPLE]
    half = -(-len(shown) // 2) if len(shown) > _ONE_COLUMN else max(1, len(shown))
    return {
        "name": name,
        "figures": each,
        "confusion_words": confusion_words(each, classes),
        "trust_words": trust_words(each),
        "people_words": people_words(each),
        "tendencies": found,
        "tendency_words": tendency_words(each, properties, found),
        "people_charts": [_people(shown[start : start + half], each) for start in range(0, len(shown), half)],
        "people_left_out": max(0, len(everyone) - MOST_PEOPLE),
        "no_people": _NO_GROUPS,
        "class_rows": _class_rows(each, classes),
        "reliability": Markup(charts.reliability_chart(each.bins)),
    }


def _people(shown: Sequence[tuple[str, Share]], each: SetFigures) -> Markup:
    rows = [
        Interval(who, share.share, (share.low, share.high), f"{share.right} of {share.images}") for who, share in shown
    ]
    return Markup(charts.interval_chart(rows, mean=each.accuracy.share))


def _class_rows(each: SetFigures, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row per class, lowest recall first; classes without pictures last."""
    mistakes = np.array(each.confusion)
    np.fill_diagonal(mistakes, 0)
    rows = []
    for number, (name, figures) in enumerate(each.classes.items()):
        recall = figures.recall
        most = np.argsort(-mistakes[number], kind="stable")[:2]
        rows.append(
            {
                "name": name,
                "figures": figures,
                "track": Markup(charts.track(recall.share, (recall.low, recall.high))),
                "mistaken": ", ".join(f"{classes[i]} {mistakes[number, i]}" for i in most if mistakes[number, i]),
            }
        )
    return sorted(rows, key=lambda row: (row["figures"].recall.share is None, row["figures"].recall.share or 0))
