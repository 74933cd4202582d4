"""The report as one HTML file. It contains its pictures, styles and script, and needs no network.

The page is `page/page.html`, a Jinja template. `page/page.js` handles clicks and the mouse pointer. It reads one JSON
value and one sheet of thumbnails.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gfnet_pl.evaluation.figures import Promise
from gfnet_pl.report import charts
from gfnet_pl.report.advice import next_steps, nothing_stands_out
from gfnet_pl.report.analysis import Analysis, Filters, Missing, OfPictures
from gfnet_pl.report.compare import compare
from gfnet_pl.report.enrolment import curve_of, enrolled
from gfnet_pl.report.of_sets import MOST_PEOPLE, of_sets
from gfnet_pl.report.people import mirror_words
from gfnet_pl.report.pictures import COLUMNS, heat, overlay, picture, sheet
from gfnet_pl.report.words import (
    breakable,
    capitalised,
    command,
    first_sentence,
    fitted_words,
    gap_words,
    percent,
    second_sentences,
)
from gfnet_pl.run.facts import checkpoint_words, facts
from gfnet_pl.run.folder import BEST
from gfnet_pl.run.learning_curve import CAVEAT, LearningCurve
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import Run

_ON_SHEET = 2_400  # thumbnails, at most
_A_CELL = 12  # thumbnails of correctly classified pictures per class and set, at most
_COLUMNS_OF_STRIP = 24
_MOST_CLASSES = 40  # rows of the table of classes before "more"
_MOST_ERRORS = 12
_MOST_TENDENCIES = 5


def render(run: Run, analysis: Analysis, others: Sequence[Run]) -> str:
    """Writes the page.

    Args:
        run: The run that the page is about.
        analysis: The analysis of that run.
        others: The runs to compare it with, if any.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("gfnet_pl.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "command": command, "capitalised": capitalised}
    source = partial(environment.loader.get_source, environment)  # type: ignore[union-attr]
    results = run.results
    names = _in_order(run)
    places = _on_sheet(results, analysis)
    number_of = {place: number for number, place in enumerate(places)}
    pictures = None if isinstance(analysis.pictures, Missing) else analysis.pictures
    values = {
        "run": run,
        "others": list(others),
        "analysis": analysis,
        "classes": results.classes,
        "style": Markup(source("style.css")[0]),
        "script": Markup(source("page.js")[0]),
        "pictures": pictures,
        "no_pictures": analysis.pictures.reason if isinstance(analysis.pictures, Missing) else "",
        "sheet": Markup(sheet(pictures.images(places))) if pictures else "",
        "data": Markup(_json(_data(results, analysis, places, names))),
        "number_of": number_of,
        "is_missing": lambda part: isinstance(part, Missing),
        "number": lambda value: "not defined" if value is None else f"{value:.2f}",
        "synthetic": results.synthetic,
        "made": run.sessions[-1]["started"][:10] if run.sessions else "",
        "checkpoint_words": checkpoint_words(run),
        "is_best": run.checkpoint.path.name == BEST,
        "first": first_sentence(run),
        "second": second_sentences(run),
        "steps": next_steps(run, analysis),
        "nothing_stands_out": nothing_stands_out(run, analysis),
        "gap_words": gap_words(run),
        "fitted_words": fitted_words(run),
        "fitted_on": results.fitted_on,
        "facts": facts(run),
        "curves": _curves(run),
        "grown": run.learning_curve,
        "grown_charts": _grown(run.learning_curve) if run.learning_curve else [],
        "caveat": CAVEAT,
        "percent": percent,
        "promised": Promise.of,
        "most_rows": _MOST_CLASSES,
        "most_people": MOST_PEOPLE,
        "most_errors": _MOST_ERRORS,
        "most_tendencies": _MOST_TENDENCIES,
        **of_sets(results, names, pictures.leaks if pictures else {}),
        **(compare(run, others) if others else {}),
        **enrolled(pictures.enrolled if pictures else curve_of(results)),
        **_errors(results, pictures),
        **_doubts(pictures),
        **_worst_person(pictures),
        **_filters(analysis.filters, pictures),
    }
    titles = {
        "sets": "How good it is",
        "next": "What to do next",
        "confusion": "What is taken for what",
        "classes": "Class by class",
        "people": "For whom it works",
        "calibration": "Probabilities",
        "errors": "The worst errors",
        "labels": "Labels to check",
        "overlap": "Which classes overlap",
        "map": "Alike pictures",
        "curves": "Learning curves",
        "filters": "Filters",
        "run": "What was trained",
        "again": "To do it again",
    }
    values["sections"] = [*([("compare", "Runs compared")] if others else []), *titles.items()]
    return environment.get_template("page.html").render(values)


def _in_order(run: Run) -> list[str]:
    """The sets of a run, the one to trust first."""
    first = run.results.trusted
    return [first, *(name for name in reversed(run.results.sets) if name != first)]


def _json(value: object) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _on_sheet(results: Results, analysis: Analysis) -> list[int]:
    """The pictures that get a thumbnail.

    These are the pictures of pairs and maps, errors, and per class and set the least certain correct ones.
    """
    everything = results.everything
    confidence = results.probabilities(everything).max(1)
    wanted: list[int] = []
    if not isinstance(analysis.pictures, Missing):
        wanted += [place for examples in analysis.pictures.overlap.examples for place in examples]
    if not isinstance(analysis.maps, Missing):
        wanted += analysis.maps.places.tolist()
    wrong = everything.predictions != everything.labels
    surest = np.flatnonzero(wrong)
    wanted += surest[np.argsort(-confidence[surest], kind="stable")].tolist()[: _ON_SHEET // 3]
    sets = np.array([picture.split for picture in everything.pictures])
    for rank in range(_A_CELL):
        for name in results.sets:
            for label in range(len(results.classes)):
                mine = np.flatnonzero((sets == name) & (everything.labels == label) & ~wrong)
                if rank < len(mine):
                    wanted.append(int(mine[np.argsort(confidence[mine], kind="stable")[rank]]))
    # sorted by confidence, so that the list for each cell of the confusion matrix is sorted too
    kept = list(dict.fromkeys(wanted))[:_ON_SHEET]
    return sorted(kept, key=lambda place: (-confidence[place] if wrong[place] else confidence[place], place))


def _data(results: Results, analysis: Analysis, places: list[int], sets: list[str]) -> dict[str, Any]:
    """The JSON value that page.js reads."""
    everything = results.everything
    confidence = results.probabilities(everything).max(1)
    number_of = {place: number for number, place in enumerate(places)}
    pictures = [
        [
            sets.index(everything.pictures[place].split),
            int(everything.labels[place]),
            int(everything.predictions[place]),
            round(float(confidence[place]) * 100, 1),
            everything.pictures[place].path,
            everything.pictures[place].group,
        ]
        for place in places
    ]
    maps: dict[str, Any] = {}
    if not isinstance(analysis.maps, Missing):
        maps["pictures"] = [number_of[place] for place in analysis.maps.places.tolist()]
        for name, points in (("pixels", analysis.maps.pixels), ("features", analysis.maps.features)):
            if points is not None:
                maps[name] = np.round(points, 4).tolist()
    missing = analysis.pictures.reason if isinstance(analysis.pictures, Missing) else ""
    return {
        "classes": results.classes,
        "sets": [{"name": name, "confusion": results.figures[name].confusion} for name in sets],
        "pictures": pictures,
        "sheet": None if missing else {"columns": COLUMNS, "rows": -(-len(places) // COLUMNS)},
        "noPictures": missing,
        "maps": maps,
    }


def _curves(run: Run) -> list[Markup] | Missing:
    wanted = (
        ({"training": "train/accuracy", "validation": "val/accuracy"}, "accuracy", True),
        ({"training": "train/loss", "validation": "val/loss"}, "loss", False),
        ({"learning rate": "train/lr"}, "learning rate", False),
    )
    drawn = []
    for tags, title, is_share in wanted:
        lines = {name: _thinned(run.curves[tag]) for name, tag in tags.items() if tag in run.curves}
        if lines:
            drawn.append(Markup(charts.line_chart(lines, x="epoch", y=title, percent=is_share, quiet=["training"])))
    return drawn or Missing(
        f"{run.folder.path} holds no TensorBoard events with curves: they were removed, or training logged elsewhere."
    )


def _grown(curve: LearningCurve) -> list[Markup]:
    """Accuracy by the number of training pictures, as a line and as intervals."""
    by_people = curve.thinned == "people"
    sizes = [float(each.groups if by_people else each.per_class) for each in curve.points]
    line = [(size, each.sets[curve.set][0]) for size, each in zip(sizes, curve.points, strict=True)]
    x = "people in training" if by_people else "training pictures per class"
    rows = []
    for each in curve.points:
        share, low, high = each.sets[curve.set]
        words = f"{each.per_class:,.0f} pictures per class" + f", {each.groups:,} people" * bool(each.groups)
        rows.append(charts.Interval(each.name, share, (low, high), percent(share, 1), words))
    chart = charts.line_chart({curve.set: line}, x=x, y=f"accuracy on {curve.set}", percent=True)
    return [Markup(chart), Markup(charts.interval_chart(rows))]


def _thinned(curve: Sequence[tuple[float, float]], most: int = 150) -> list[tuple[float, float]]:
    """A curve of at most `most` points. Where there are more, neighbouring points are averaged."""
    if len(curve) <= most:
        return list(curve)
    parts = np.array_split(np.array(curve), most)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def _errors(results: Results, seen: OfPictures | None) -> dict[str, Any]:
    if seen is None:
        return {"errors": []}
    everything, classes = results.everything, results.classes
    shares = results.probabilities(everything)
    errors = []
    for error in seen.worst:
        place = error.place
        (pixels,) = seen.images([place])
        likeliest = np.argsort(-shares[place], kind="stable")[:3]
        errors.append(
            {
                "picture": picture(pixels),
                "saliency": "" if error.saliency is None else overlay(pixels, error.saliency),
                "label": classes[everything.labels[place]],
                "said": classes[likeliest[0]],
                "top": " · ".join(f"{classes[i]} {percent(shares[place, i])}" for i in likeliest),
                "set": everything.pictures[place].split,
                "path": everything.pictures[place].path,
            }
        )
    return {"errors": errors}


def _doubts(seen: OfPictures | None) -> dict[str, Any]:
    if seen is None or seen.doubts is None:
        return {"doubts": None, "doubted": []}
    found = seen.doubts
    doubted = [
        {"picture": picture(pixels), "of": each, "now": percent(share)}
        for pixels, each, share in zip(found.images, found.first, found.believed, strict=True)
    ]
    return {"doubts": found, "doubted": doubted}


def _worst_person(seen: OfPictures | None) -> dict[str, Any]:
    worst = seen.worst_person if seen else None
    shown = [
        {"of": each, "pictures": [picture(pixels) for pixels in (each.image, each.learned, each.mistaken_for)]}
        for each in (worst.pictures if worst else [])
    ]
    return {"worst_person": worst, "worst_person_errors": shown, "mirror_words": mirror_words(worst)}


def _filters(filters: Filters, seen: OfPictures | None) -> dict[str, Any]:
    energy = {
        f"block {number}": [(float(radius), float(share)) for radius, share in enumerate(of_block)]
        for number, of_block in _few(list(enumerate(filters.energy, 1)))
    }
    chart = charts.line_chart(energy, x="frequency, in cycles per map", y="share of energy", percent=True, ordered=True)
    values: dict[str, Any] = {
        "blocks": [
            {"magnitude": heat(magnitude), "kernels": [heat(kernel, signed=True) for kernel in kernels]}
            for magnitude, kernels in zip(filters.magnitude, filters.kernels, strict=True)
        ],
        "energy_chart": Markup(chart),
        "field_chart": "",
        "fields": [],
        "strips": [],
        "moved_chart": "",
        "frequencies": [],
    }
    if seen:
        field, radius = seen.field
        values["fields"] = [heat(each[::2, ::2] ** 0.5) for each in field]  # the root makes small values visible
        steps = {"pixels": [(float(block), float(each)) for block, each in enumerate(radius)]}
        chart = charts.line_chart(steps, x="block", y="radius of the receptive field, in pixels,")
        values["field_chart"] = Markup(chart)
        values["frequencies"] = [_frequency(ratio) for ratio in seen.frequencies]
    if not isinstance(filters.history, Missing) and filters.moved is not None:
        epochs, magnitudes = filters.history
        chosen = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), _COLUMNS_OF_STRIP)).round().astype(int))
        scale = magnitudes.max((0, 2, 3))  # of each block, over training
        values["strips"] = [
            [(int(epochs[i]), heat(magnitudes[i, block], top=float(scale[block]))) for i in chosen]
            for block in range(magnitudes.shape[1])
        ]
        moved = {
            f"block {number}": list(zip(epochs[1:].tolist(), of_block[1:].tolist(), strict=True))
            for number, of_block in _few(list(enumerate(filters.moved.T, 1)))
        }
        if len(epochs) > 1:
            chart = charts.line_chart(moved, x="epoch", y="change of the filters", percent=True, ordered=True)
            values["moved_chart"] = Markup(chart)
    return values


def _frequency(ratio: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, str]:
    """The frequency at which a pair of classes differs most, in words."""
    if not np.isfinite(ratio).any():
        return {"words": "too few pictures"}
    row, column = np.unravel_index(int(np.nanargmax(ratio)), ratio.shape)
    signed = int(row) - len(ratio) if row > len(ratio) // 2 else int(row)
    return {"words": f"{signed} down, {column} across ({np.nanmax(ratio):.1f})"}


def _few(blocks: list[Any], most: int = 6) -> list[Any]:
    """At most `most` blocks, including the first and the last, so that the lines of a chart can be distinguished."""
    return blocks if len(blocks) <= most else [blocks[round(i * (len(blocks) - 1) / (most - 1))] for i in range(most)]
