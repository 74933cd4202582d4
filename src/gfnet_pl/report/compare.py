"""Several runs side by side: which settings differ, and which run is better on the same pictures."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gfnet_pl.evaluation.intervals import mcnemar
from gfnet_pl.report import charts
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import Run


def compare(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    """Computes what the page shows in its section on several runs.

    Args:
        run: The run that the page is about.
        others: The runs to compare it with, at least one.

    Returns:
        Values for the template, by name.
    """
    runs = [run, *others]
    sets = [name for name in run.results.sets if any(name in other.results.sets for other in others)]
    curves = {each.name: each.curves["val/accuracy"] for each in runs if "val/accuracy" in each.curves}
    keys = sorted(set().union(*(each.checkpoint.settings for each in runs)) - {"data.splits", "ckpt_path", "config"})
    chosen = {key: [str(each.checkpoint.settings.get(key)) for each in runs] for key in keys}
    return {
        "compared_sets": sets or list(run.results.sets),
        "duels": [duel for other in others for duel in _duels(run.results, other.results, other.name)],
        "compared_curve": Markup(charts.line_chart(curves, x="epoch", y="validation accuracy", percent=True))
        if curves
        else "",
        "differences": [(key, values) for key, values in chosen.items() if len(set(values)) > 1],
    }


def _duels(mine: Results, theirs: Results, name: str) -> list[dict[str, Any]]:
    """For each set, how often only one of two nets is right, on the pictures on which both were tested."""
    sides = [
        {
            (picture.split, picture.path): right
            for part in each.sets.values()
            for picture, right in zip(part.pictures, (part.predictions == part.labels).tolist(), strict=True)
        }
        for each in (mine, theirs)
    ]
    duels = []
    for split in mine.sets:
        shared = [key for key in sides[0] if key[0] == split and key in sides[1]]
        better = sum(sides[1][key] and not sides[0][key] for key in shared)
        worse = sum(sides[0][key] and not sides[1][key] for key in shared)
        if shared:
            p = mcnemar(better, worse)
            duels.append({"run": name, "set": split, "pictures": len(shared), "better": better, "worse": worse, "p": p})
    return duels
