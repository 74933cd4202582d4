"""The trials of a sweep as a table and as a picture."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.table import Table

from gfnet_pl.messages import duration
from gfnet_pl.run.sweep import Tried

_SHOWN = 10  # rows of the table
_COLUMNS = 3  # of the picture


def in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in settings.items())


def _short(value: Any) -> str:  # noqa: ANN401
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def trials_table(trials: Sequence[Tried], objective: str) -> Table:
    """The best trials, the best one first."""
    keys = list(dict.fromkeys(key for each in trials for key in each.settings))
    ranked = sorted(trials, key=lambda each: (each.state == "complete", each.value or 0.0), reverse=True)
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{len(trials)} trials, the best first")
    for heading in ("trial", objective, *(key.rpartition(".")[2] for key in keys), "state", "time"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for each in ranked[:_SHOWN]:
        value = "-" if each.value is None else f"{each.value:.1%}"
        spent = "-" if each.seconds is None else duration(each.seconds, exact=False)
        settings = [_short(each.settings.get(key, "-")) for key in keys]
        table.add_row(str(each.number), value, *settings, each.state, spent)
    return table


def drawn(trials: Sequence[Tried], objective: str, logarithmic: Set[str]) -> Figure:
    """The value of each trial in their order, with the best so far, and then against each setting."""
    keys = list(dict.fromkeys(key for each in trials for key in each.settings))
    known = [each for each in trials if each.value is not None]
    rows = -(-(1 + len(keys)) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    places: dict[str, list[Any]] = {"trial": [each.number for each in known]}
    places |= {key: [each.settings.get(key) for each in known] for key in keys}
    for axis, (name, at) in zip(axes, places.items(), strict=False):
        if any(not isinstance(each, int | float) or isinstance(each, bool) for each in at):
            at = [str(each) for each in at]
        for state, look in (("complete", {"color": "#2166ac"}), ("pruned", {"color": "#b0b0b0", "marker": "x"})):
            chosen = [place for place, each in enumerate(known) if each.state == state]
            if not chosen:
                continue
            points = [at[place] for place in chosen], [100 * (known[place].value or 0.0) for place in chosen]
            axis.scatter(*points, label=state, **look)
        axis.set_xlabel(name)
        if name in logarithmic:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
    complete = [(each.number, 100 * (each.value or 0.0)) for each in known if each.state == "complete"]
    if complete:
        numbers, values = zip(*complete, strict=True)
        axes[0].step(numbers, np.maximum.accumulate(values), where="post", color="#b2182b", label="best so far")
    axes[0].set_ylabel(f"{objective}, %")
    axes[0].legend(frameon=False)
    for axis in axes[len(places) :]:
        axis.set_visible(False)
    return figure
