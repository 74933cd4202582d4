"""What to do next, derived from a run's figures: what would help most, and a few steps, the most useful one first.

What would help is measured in points of accuracy that are lost for want of it, on the set that says most about the
pictures to come, so that more people, more pictures and cleaner labels can be compared.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gfnet_pl.data.packed import file_of
from gfnet_pl.evaluation.figures import Gap, People
from gfnet_pl.report.analysis import Analysis, Missing
from gfnet_pl.report.words import capitalised, percent
from gfnet_pl.run.run import Run

_MOST = 4
_WIDE_GAP = 0.03  # of accuracy, from which new people are worth a step of their own
_WORTH = 0.01  # of accuracy, from which pictures of a class are
_MANY_DOUBTS = 0.012  # of the training pictures; of labels as published up to 0.8 % were suspected, of 3 % wrong 1.5 %
_RARE = 2 / 3  # of the median of the training pictures per class, below which a class has few
_STILL_RISING = 0.005  # of accuracy per epoch
_MANY_TWINS = 0.2


class Step(NamedTuple):
    """Something to do.

    Attributes:
        what: What to do, in a few words.
        why: The figure behind it.
        command: What to type; default: nothing.
        link: A section of the page that shows more; default: none.
    """

    what: str
    why: str
    command: str = ""
    link: str = ""


def next_steps(run: Run, analysis: Analysis) -> list[Step]:
    """At most four steps. The last one is how to use the net."""
    steps = [
        *(_vary(run) or _helps_most(run, analysis)),
        *_people(run),
        *_twins(run, analysis),
        *_longer(run),
        *_mistakes(run, analysis),
        *_find_out(run),
    ]
    return [*steps[: _MOST - 1], _use(run)]


def nothing_stands_out(run: Run, analysis: Analysis) -> str:
    """A sentence if the figures do not say what about the data would help most; otherwise empty."""
    if _vary(run) or _helps_most(run, analysis):
        return ""
    unknown = "" if run.learning_curve else "; whether more pictures would help is not known, gfnet curve finds out"
    return f"Neither more people, nor more pictures, nor cleaner labels stand out as what would help most{unknown}."


def _wide_gap(run: Run) -> Gap | None:
    """The gap between known and new people, if it is wide beyond its interval."""
    gap = run.results.gap
    return gap if gap and gap.difference >= _WIDE_GAP and gap.low > 0 else None


def _vary(run: Run) -> list[Step]:
    """Augmentation costs nothing, so it comes before any new picture."""
    augmented = any(value for key, value in run.checkpoint.settings.items() if key.startswith("data.augment."))
    if augmented or not (gap := _wide_gap(run)):
        return []
    why = f"Accuracy falls by {100 * gap.difference:.0f} points on people it has not seen."
    return [Step("Vary the training pictures", why, f"gfnet fit --config {run.folder.config} --config robust.yaml")]


def _helps_most(run: Run, analysis: Analysis) -> list[Step]:
    """The one thing about the data that would help most; empty if nothing stands out."""
    found = [*_more_people(run), *_more_pictures(run), *_more_of_a_class(run), *_cleaner_labels(analysis)]
    return [max(found, key=lambda each: each[0])[1]] if found else []


def _people(run: Run) -> list[Step]:
    name, results = run.results.trusted, run.results
    if People.of(name, results.figures[name], results.known) is People.NEW:
        return []
    why = "Say which pictures belong to one person (or session, or video), and keep some people for the test"
    command = "--data.split_by group --data.unseen_groups 5"
    path = results.sets[name].pictures[0].path
    if file_of(path) == path:
        command, end = f"--data.group_by '(signer[0-9]+)' {command}", "."
    else:  # there is no name that says it
        end = "; of files that hold many pictures, an .npz can say it, in an array of groups."
    return [Step("Find out how good it is for new people", why + end, f"gfnet fit … {command}")]


def _more_people(run: Run) -> Iterator[tuple[float, Step]]:
    """The points that are lost on new people, unless the learning curve says that more people no longer pay."""
    gap, curve = _wide_gap(run), run.learning_curve
    of_people = curve if curve and curve.thinned == "people" else None
    if gap is None or (of_people and of_people.helps is False):
        return
    interval = f"95 %: {100 * gap.low:.0f} to {100 * gap.high:.0f}"
    why = f"Accuracy falls by {100 * gap.difference:.0f} points on people it has not seen ({interval})"
    why += f"; {of_people.sentence}." if of_people else "."
    yield gap.difference, Step("What would help most: pictures of more people in training", why, link="curves")


def _more_pictures(run: Run) -> Iterator[tuple[float, Step]]:
    curve = run.learning_curve
    if curve and curve.helps:
        what = "pictures of more people" if curve.thinned == "people" else "more pictures"
        yield curve.gain[0], Step(f"What would help most: {what}", f"{capitalised(curve.sentence)}.", link="curves")


def _more_of_a_class(run: Run) -> Iterator[tuple[float, Step]]:
    """A class with few training pictures and a low recall: the points that are lost below the mean recall."""
    name = run.results.trusted
    figures, counts = run.results.figures[name], run.training_counts
    usual, mean = float(np.median(list(counts.values()) or [0])), figures.macro_accuracy
    for label, of in figures.classes.items():
        few = counts.get(label, 0)
        if of.recall.share is None or of.recall.high >= mean or few >= _RARE * usual:
            continue
        lost = (mean - of.recall.share) * of.recall.images / figures.accuracy.images
        why = f"It has {few:,} training pictures, and most classes have about {usual:,.0f}. On {name} "
        why += f"{of.recall.right} of {of.recall.images} are right ({percent(of.recall.share)}; mean {percent(mean)})."
        if lost >= _WORTH:
            yield lost, Step(f"What would help most: more pictures of {label}", why, link="classes")


def _cleaner_labels(analysis: Analysis) -> Iterator[tuple[float, Step]]:
    """The share of the pictures whose label is suspected: it costs as many points where the tested labels are alike."""
    found = None if isinstance(analysis.pictures, Missing) else analysis.pictures.doubts
    if found and found.share >= _MANY_DOUBTS:
        yield found.share, Step("What would help most: cleaner labels", found.sentence, link="labels")


def _find_out(run: Run) -> list[Step]:
    if run.learning_curve or run.results.figures[run.results.trusted].accuracy.share == 1:
        return []
    why = "It takes two trainings on fewer pictures, about twice the time of this run."
    return [Step("Find out whether more pictures would help", why, f"gfnet curve {run.folder.path}", link="curves")]


def _twins(run: Run, analysis: Analysis) -> list[Step]:
    if isinstance(analysis.pictures, Missing):
        return []
    name = run.results.trusted
    share = analysis.pictures.leaks.get(name, 0.0)
    if share < _MANY_TWINS:
        return []
    why = f"At least {percent(share)} of the {name} pictures have a near twin in training, so {name} measures memory."
    return [Step("Split by person and not by picture", why, f"gfnet audit {run.results.root or ''}".strip())]


def _longer(run: Run) -> list[Step]:
    curve = [value for _, value in run.curves.get("val/accuracy", [])]
    if len(curve) < 3 or max(curve) > curve[-1] or min(np.diff(curve[-3:])) < _STILL_RISING:
        return []
    points = 100 * (curve[-1] - curve[-3])
    why = f"Validation accuracy was still rising, by {points:.0f} points in the last two epochs."
    return [Step("Train longer", why, f"gfnet fit … --trainer.max_epochs {2 * run.trained_epochs}", "curves")]


def _mistakes(run: Run, analysis: Analysis) -> list[Step]:
    if isinstance(analysis.pictures, Missing) or not analysis.pictures.overlap.pairs:
        return []
    pair, classes = analysis.pictures.overlap.pairs[0], run.results.classes
    a, b = classes[pair.a], classes[pair.b]
    verdict = analysis.pictures.overlap.explanation.verdict.partition(":")[0]
    why = f"They were mistaken for each other {pair.a_as_b + pair.b_as_a} times, more than any other two."
    cause = {
        "Mostly in the pixels": " The errors are mostly in the pixels: the pictures themselves are alike.",
        "Mostly in the net": " The errors are mostly in the net, and not in the pixels: it could learn these classes.",
    }
    return [Step(f"Look at the pictures of {a} and {b}", why + cause.get(verdict, ""), link="confusion")]


def _use(run: Run) -> Step:
    why = (
        "One row per picture: what it shows, how probable that is, and whether to accept it. gfnet export writes files "
    )
    why += "for other programs."
    words = f"gfnet predict --ckpt_path {run.checkpoint.path} PICTURES"
    return Step("Use it on your own pictures", why, words)
