"""`MODEL_CARD.md` of a tested run, in the form of Hugging Face's model cards, from the run's files alone.

The front matter is the YAML that their site reads. PyYAML writes it: their own package would bring a client for their
site along, which nobody needs to write a file.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from gfnet_pl.evaluation.figures import People, Promise, SetFigures, people, worst_person
from gfnet_pl.export.describe import in_order, source
from gfnet_pl.run.facts import facts
from gfnet_pl.run.run import Run

_MOST_ROWS = 20
_PRIVATE = ("data", "classes", "hardware", "all folds")  # of the facts: paths, or said elsewhere
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~!&])")


def model_card(run: Run) -> str:
    """Writes the card.

    Args:
        run: A tested run.

    Returns:
        Markdown with YAML in front.
    """
    front = yaml.safe_dump(_front(run), sort_keys=False, allow_unicode=True, width=1000)
    parts = (
        _head(run),
        _how_good(run),
        _people(run),
        _mistakes(run),
        _trust(run),
        _trained(run),
        _limits(run),
        _use(run),
    )
    return f"---\n{front}---\n\n" + "\n".join(line for part in parts for line in (*part, ""))


def _front(run: Run) -> dict[str, Any]:
    results = run.results
    data = source(run.checkpoint)
    of_sets = []
    for name in in_order(results):
        figures = results.figures[name]
        promise, worst = Promise.of(name, figures, results.known), worst_person(figures)
        metrics = [
            {
                "type": "accuracy",
                "value": _rounded(figures.accuracy.share),
                "name": f"accuracy, {promise.people.value}",
            },
            {"type": "accuracy", "value": _rounded(promise.low), "name": "lower end of its 95 % interval"},
            {"type": "accuracy", "value": _rounded(promise.high), "name": "upper end of its 95 % interval"},
        ]
        if worst:
            metrics.append({"type": "accuracy", "value": _rounded(worst[1].share), "name": "accuracy, worst person"})
        of_sets.append(
            {
                "task": {"type": "image-classification", "name": "Image Classification"},
                "dataset": {
                    "type": re.sub(r"[^\w.-]+", "-", data).strip("-").lower() or "data",
                    "name": data,
                    "split": name,
                },
                "metrics": metrics,
            }
        )
    return {
        "library_name": "gfnet_pl",
        "pipeline_tag": "image-classification",
        "tags": [
            "image-classification",
            "global-filter-network",
            *(["synthetic-data"] if results.synthetic else []),
        ],
        "model-index": [{"name": run.name.replace("/", "-"), "results": of_sets}],
    }


def _head(run: Run) -> list[str]:
    results, canvas = run.results, run.checkpoint.canvas
    kind = "coloured" if canvas.colour else "grey"
    lines = [
        f"# {_text(run.name)}",
        "",
        f"A Global Filter Network ([Rao et al. 2021](https://arxiv.org/abs/2107.00645)) that tells "
        f"{len(results.classes)} classes apart on {kind} pictures of {canvas.height} x {canvas.width} pixels: "
        f"{', '.join(map(_text, results.classes))}.",
        "",
        _sentence(run),
    ]
    if results.synthetic:
        lines += [
            "",
            "**It was trained and tested on synthetic pictures. No figure here says anything about real ones.**",
        ]
    return lines


def _sentence(run: Run) -> str:
    name = run.results.trusted
    figures = run.results.figures[name]
    promise, worst = Promise.of(name, figures, run.results.known), worst_person(figures)
    words = f"On {promise.people.value} ({_text(name)}) it is right for {_percent(figures.accuracy.share)} of "
    words += f"{figures.accuracy.images:,} pictures (95 %: {_percent(promise.low)} to {_percent(promise.high)}"
    words += ", for further people like these)" if promise.over_people else ")"
    if worst:
        words += f", and for {_percent(worst[1].share)} of those of the worst person"
    return f"{words}."


def _how_good(run: Run) -> list[str]:
    rows = []
    for name in in_order(run.results):
        figures = run.results.figures[name]
        promise, worst = Promise.of(name, figures, run.results.known), worst_person(figures)
        rows.append(
            (
                _text(name),
                promise.people.value,
                f"{figures.accuracy.images:,}",
                _percent(figures.accuracy.share),
                f"{_percent(promise.low)} to {_percent(promise.high)}",
                "people" if promise.over_people else "pictures",
                _percent(worst[1].share) if worst else "",
                _percent(figures.macro_accuracy),
                _percent(figures.top3.share),
            )
        )
    head = (
        "set",
        "pictures of",
        "pictures",
        "accuracy",
        "95 % interval",
        "over",
        "worst person",
        "mean over classes",
        "top 3",
    )
    lines = ["## How good it is", "", *_table(head, rows)]
    if run.results.gap:
        words = run.results.gap.sentence
        lines += ["", f"{words[:1].upper()}{words[1:]}."]
    return lines


def _people(run: Run) -> list[str]:
    lines: list[str] = []
    for name in in_order(run.results):
        figures = run.results.figures[name]
        judged = people(figures)
        if People.of(name, figures, run.results.known) is People.NEW and len(judged) > 1:
            rows = [
                (
                    _text(group),
                    f"{share.images:,}",
                    _percent(share.share),
                    f"{_percent(share.low)} to {_percent(share.high)}",
                )
                for group, share in judged[:_MOST_ROWS]
            ]
            title = f"### Person by person: {_text(name)}, worst first"
            lines += [title, "", *_table(("person", "pictures", "accuracy", "95 % interval, over pictures"), rows)]
            if len(judged) > _MOST_ROWS:
                lines += ["", f"{len(judged) - _MOST_ROWS:,} more are better than these."]
            lines.append("")
    return lines[:-1]


def _mistakes(run: Run) -> list[str]:
    name, classes = run.results.trusted, run.results.classes
    figures = run.results.figures[name]
    counts = np.array(figures.confusion)
    np.fill_diagonal(counts, 0)
    places = [divmod(int(place), len(counts)) for place in np.argsort(-counts, axis=None, kind="stable")[:10]]
    rows = [
        (
            _text(classes[label]),
            _text(classes[said]),
            f"{counts[label, said]:,}",
            f"{_images(figures, classes[label]):,}",
        )
        for label, said in places
        if counts[label, said]
    ]
    lines = [f"## What it takes for what ({_text(name)})", ""]
    if not rows:
        return [*lines, "It made no error on these pictures."]
    lines += _table(("class", "taken for", "pictures", "of"), rows)
    low = sorted((of.recall.share, each) for each, of in figures.classes.items() if of.recall.share is not None)[:5]
    words = ", ".join(f"{_text(each)} {_percent(share)}" for share, each in low)
    return [*lines, "", f"Classes with the lowest recall: {words}."]


def _images(figures: SetFigures, label: str) -> int:
    return figures.classes[label].recall.images


def _trust(run: Run) -> list[str]:
    results, name = run.results, run.results.trusted
    calibration, figures = results.calibration, run.results.figures[name]
    lines = ["## Probabilities, and when to accept a prediction", ""]
    if not calibration.rejections:
        return [*lines, "They are not calibrated: there was no set to fit a temperature and thresholds on."]
    lines += [
        f"Logits are divided by a temperature of {calibration.temperature:.3f}. On {_text(name)}, the calibration "
        f"error is {figures.calibrated_error:.3f} ({figures.calibration_error:.3f} without). Temperature and "
        f"thresholds hold {calibration.promise}.",
        "",
    ]
    rows = []
    for each in figures.acceptance:
        cells = ("none can be promised", "", "")
        if each.threshold is not None:
            cells = (f"{each.threshold:.4f}", _percent(each.accepted.share), _percent(each.wrong.share))
        rows.append((f"{100 * each.error_rate:g} %", *cells))
    lines += _table(("may be wrong", "accept from", f"accepted on {_text(name)}", "of them wrong"), rows)
    if calibration.familiarity:
        lines += [
            "",
            "Whatever its probability, a picture is not accepted if its features lie too far from those of the "
            "training pictures.",
        ]
    return lines


def _trained(run: Run) -> list[str]:
    counts = run.training_counts
    lines = ["## What it was trained on", "", f"- data: {_text(source(run.checkpoint))}"]
    if run.results.synthetic:
        lines.append("- provenance: drawn by gfnet_pl; no person was photographed")
    else:
        lines.append(
            "- provenance: a folder of the person who trained it; gfnet_pl knows neither who is on the pictures, nor "
            "under which licence they are"
        )
    if counts:
        fewest, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
        span = f"{counts[fewest]:,} ({_text(fewest)}) to {counts[most]:,} ({_text(most)})"
        lines.append(f"- training pictures per class: {counts[most] if counts[fewest] == counts[most] else span}")
    return [*lines, *(f"- {name}: {_text(words)}" for name, words in facts(run) if name not in _PRIVATE)]


def _limits(run: Run) -> list[str]:
    results, name = run.results, run.results.trusted
    figures = results.figures[name]
    lines = [
        "## What it must not be used for",
        "",
        f"- It names one of its {len(results.classes)} classes for every picture, also for one that shows none of "
        "them. The thresholds above turn away some of these, not all.",
        "- Pictures made in another way (other cameras, light, backgrounds, croppings) were not tested.",
        "- Nothing that harms a person if a prediction is wrong may depend on it alone.",
    ]
    if results.synthetic:
        lines.append("- Real hands: it was trained on drawn ones, and will not read real ones well.")
    if People.of(name, figures, results.known) is not People.NEW:
        lines.append(
            "- New people: it was not tested on any whom training did not see, so nothing here says how it does."
        )
    elif worst := worst_person(figures):
        lines.append(
            f"- People differ: for the worst of those tested it is right for {_percent(worst[1].share)} only. Try it "
            "on the people who will use it."
        )
    return lines


def _use(run: Run) -> list[str]:
    return [
        "## How to use it",
        "",
        "With the files that `gfnet export` wrote beside this card (model.onnx, model.safetensors, export.json):",
        "",
        "```python",
        "from gfnet_pl import Classifier",
        "",
        'classifier = Classifier.load(".")  # this folder',
        'prediction = classifier("picture.jpg")',
        "print(prediction.label, prediction.probability, prediction.accepted)",
        "```",
        "",
        "`gfnet export --check .` runs the files on the test vectors that came with them. Other programs read in the "
        "metadata of model.onnx how a picture becomes its input.",
        "",
        f"SHA-256 of the checkpoint: `{run.results.checkpoint['sha256']}`",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _text(words: str) -> str:
    """A name as text: no character of it is Markdown or HTML, and it is one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(words.split()))
