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

from gfnet_pl.evaluation.figures import SetFigures, Share
from gfnet_pl.report import charts
from gfnet_pl.report.analysis import Analysis, Filters, Missing, OfPictures
from gfnet_pl.report.charts import Interval
from gfnet_pl.report.compare import compare
from gfnet_pl.report.pictures import COLUMNS, heat, overlay, picture, sheet
from gfnet_pl.report.words import facts, gap_words, headline
from gfnet_pl.run.results import Results
from gfnet_pl.run.run import Run

_ON_SHEET = 2_400  # thumbnails, at most
_A_CELL = 12  # thumbnails of correctly classified pictures per class and set, at most
_COLUMNS_OF_STRIP = 24
_MOST_GROUPS = 40


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
    source = partial(environment.loader.get_source, environment)  # type: ignore[union-attr]
    figures = run.results.figures
    shown = list(figures).index("unseen") if "unseen" in figures else 0
    places = _on_sheet(run.results, analysis)
    number_of = {place: number for number, place in enumerate(places)}
    pictures = None if isinstance(analysis.pictures, Missing) else analysis.pictures
    values = {
        "run": run,
        "others": list(others),
        "analysis": analysis,
        "classes": run.results.classes,
        "style": Markup(source("style.css")[0]),
        "script": Markup(source("page.js")[0]),
        "pictures": pictures,
        "no_pictures": analysis.pictures.reason if isinstance(analysis.pictures, Missing) else "",
        "sheet": Markup(sheet(pictures.images(places))) if pictures else "",
        "data": Markup(_json(_data(run.results, analysis, places, shown))),
        "number_of": number_of,
        "shown": shown,
        "is_missing": lambda part: isinstance(part, Missing),
        "number": lambda value: "not defined" if value is None else f"{value:.2f}",
        "synthetic": run.results.root is None,
        "made": run.sessions[-1]["started"][:10] if run.sessions else "",
        "trusted": "unseen" if "unseen" in figures else "",
        "headline": headline(run),
        "gap_words": gap_words(run),
        "facts": facts(run),
        "set_chart": Markup(charts.interval_chart([_set_row(*each) for each in figures.items()], title="accuracy")),
        "curves": _curves(run),
        "class_charts": [Markup(_class_chart(each)) for each in figures.values()],
        "group_charts": [Markup(_group_chart(each)) for each in figures.values()],
        "reliability": [Markup(charts.reliability_chart(each.bins)) for each in figures.values()],
        **(compare(run, others) if others else {}),
        **_errors(run.results, pictures),
        **_filters(analysis.filters, pictures, run.results.classes),
    }
    titles = {
        "sets": "how good",
        "run": "what was trained",
        "curves": "learning curves",
        "confusion": "confusion",
        "classes": "classes and groups",
        "calibration": "calibration",
        "errors": "worst errors",
        "overlap": "overlap",
        "filters": "filters",
        "again": "again",
    }
    values["sections"] = [*([("compare", "runs compared")] if others else []), *titles.items()]
    return environment.get_template("page.html").render(values)


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


def _data(results: Results, analysis: Analysis, places: list[int], shown: int) -> dict[str, Any]:
    """The JSON value that page.js reads."""
    everything = results.everything
    confidence = results.probabilities(everything).max(1)
    sets = list(results.sets)
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
        "sets": [{"name": name, "confusion": each.confusion} for name, each in results.figures.items()],
        "shown": shown,
        "pictures": pictures,
        "sheet": None if missing else {"columns": COLUMNS, "rows": -(-len(places) // COLUMNS)},
        "noPictures": missing,
        "maps": maps,
    }


def _set_row(name: str, each: SetFigures) -> Interval:
    accuracy = each.accuracy
    note = f"{100 * (accuracy.share or 0):.1f} %"
    return Interval(name, accuracy.share, (accuracy.low, accuracy.high), each.new_groups, note)


def _curves(run: Run) -> list[Markup] | Missing:
    wanted = (
        ({"training": "train/accuracy", "validation": "val/accuracy"}, "accuracy", True),
        ({"training": "train/loss", "validation": "val/loss"}, "loss", False),
        ({"learning rate": "train/lr"}, "learning rate", False),
    )
    drawn = []
    for tags, title, percent in wanted:
        lines = {name: _thinned(run.curves[tag]) for name, tag in tags.items() if tag in run.curves}
        if lines:
            drawn.append(Markup(charts.line_chart(lines, x="epoch", y=title, percent=percent)))
    return drawn or Missing(
        f"{run.folder.path} holds no TensorBoard events with curves: they were removed, or training logged elsewhere."
    )


def _thinned(curve: Sequence[tuple[float, float]], most: int = 150) -> list[tuple[float, float]]:
    """A curve of at most `most` points. Where there are more, neighbouring points are averaged."""
    if len(curve) <= most:
        return list(curve)
    parts = np.array_split(np.array(curve), most)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def _class_chart(each: SetFigures) -> str:
    def note(name: str) -> str:
        found = each.classes[name]
        precision = "-" if found.precision.share is None else f"{100 * found.precision.share:.0f}"
        return f"P {precision} F1 {'-' if found.f1 is None else f'{100 * found.f1:.0f}'}  n {found.recall.images}"

    by_recall = sorted(each.classes.items(), key=lambda item: (item[1].recall.share is None, item[1].recall.share or 0))
    return charts.interval_chart([_row(name, of.recall, note(name)) for name, of in by_recall], title="recall by class")


def _group_chart(each: SetFigures) -> str:
    if not each.groups:
        return '<p class="missing">Groups are not known: data.group_by says which pictures belong together.</p>'
    worst = sorted(each.groups.items(), key=lambda item: (item[1].share or 0, item[0]))
    chart = charts.interval_chart(
        [_row(name, share, f"{share.right} of {share.images}") for name, share in worst[:_MOST_GROUPS]],
        title="accuracy by group",
        labels=110,
    )
    more = (
        f'<p class="quiet">The worst {_MOST_GROUPS} of {len(worst):,} groups.</p>' if len(worst) > _MOST_GROUPS else ""
    )
    return chart + more


def _row(name: str, share: Share, note: str) -> Interval:
    return Interval(name[:20], share.share, (share.low, share.high), None, note)


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
                "top": " · ".join(f"{classes[i]} {shares[place, i]:.0%}" for i in likeliest),
                "set": everything.pictures[place].split,
                "path": everything.pictures[place].path,
            }
        )
    return {"errors": errors}


def _filters(filters: Filters, seen: OfPictures | None, classes: Sequence[str]) -> dict[str, Any]:
    energy = {
        f"block {number}": [(float(radius), float(share)) for radius, share in enumerate(of_block)]
        for number, of_block in _few(list(enumerate(filters.energy, 1)))
    }
    values: dict[str, Any] = {
        "blocks": [
            {"magnitude": heat(magnitude), "kernels": [heat(kernel, signed=True) for kernel in kernels]}
            for magnitude, kernels in zip(filters.magnitude, filters.kernels, strict=True)
        ],
        "energy_chart": Markup(charts.line_chart(energy, x="radius, cycles a map", y="share of energy", percent=True)),
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
        values["field_chart"] = Markup(charts.line_chart(steps, x="block", y="radius of the receptive field"))
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
            chart = charts.line_chart(moved, x="epoch", y="change of the filter in an epoch", percent=True)
            values["moved_chart"] = Markup(chart)
    if seen:
        values["frequencies"] = [
            _frequency(f"{classes[pair.a]} / {classes[pair.b]}", ratio)
            for pair, ratio in zip(seen.overlap.pairs, seen.frequencies, strict=True)
        ]
    return values


def _frequency(pair: str, ratio: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, str]:
    if not np.isfinite(ratio).any():
        return {"pair": pair, "picture": "", "words": "too few pictures"}
    row, column = np.unravel_index(int(np.nanargmax(ratio)), ratio.shape)
    signed = int(row) - len(ratio) if row > len(ratio) // 2 else int(row)
    words = f"best {signed} down, {column} across: {np.nanmax(ratio):.1f}"
    return {"pair": pair, "picture": heat(np.fft.fftshift(ratio, axes=0)), "words": words}


def _few(blocks: list[Any], most: int = 6) -> list[Any]:
    """At most `most` blocks, including the first and the last, so that the lines of a chart can be distinguished."""
    return blocks if len(blocks) <= most else [blocks[round(i * (len(blocks) - 1) / (most - 1))] for i in range(most)]
