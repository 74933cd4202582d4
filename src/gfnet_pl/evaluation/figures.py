"""The figures of one evaluated set, each with its interval, and the gap between known and unknown groups.

The values are plain, so that `dataclasses.asdict` gives JSON. A share of no pictures is None.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from gfnet_pl.evaluation.calibration import (
    Bin,
    Ints,
    Judged,
    Rejection,
    calibration_error,
    log_loss,
    probabilities,
    reliability,
)
from gfnet_pl.evaluation.intervals import newcombe, wilson, wilson_of_groups
from gfnet_pl.messages import printable

FEWEST_PICTURES = 10  # of a person, for its accuracy to be named


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pictures with its 95 % interval (Wilson, for independent pictures).

    Attributes:
        right: Pictures that count.
        images: All pictures.
        share: right / images, 0 to 1; None without pictures.
        low: Lower end of the interval, 0 to 1.
        high: Upper end.
    """

    right: int
    images: int
    share: float | None
    low: float
    high: float

    @classmethod
    def of(cls, right: int, images: int) -> "Share":
        return cls(right, images, right / images if images else None, *wilson(right, images))


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The figures of one class.

    Attributes:
        recall: Of the pictures of the class, those predicted as it.
        precision: Of the pictures predicted as the class, those that are of it.
        f1: Harmonic mean of the two, 0 to 1; None if the class has no pictures and was never predicted.
    """

    recall: Share
    precision: Share
    f1: float | None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a threshold that was fitted on another set (or on this one) does on this set.

    Attributes:
        error_rate: The error rate it was fitted for.
        threshold: See `calibration.Rejection`.
        accepted: Of all pictures, those at or above the threshold that are not unlike the training pictures.
        wrong: Errors among those accepted.
    """

    error_rate: float
    threshold: float | None
    accepted: Share
    wrong: Share


@dataclass(frozen=True, slots=True)
class SetFigures:
    """The figures of one set.

    Attributes:
        accuracy: Pictures that are right.
        new_groups: 95 % interval of the accuracy on new groups like these, see `intervals.wilson_of_groups`; None if
            groups are too few, or unknown for some pictures.
        macro_accuracy: Mean recall of the classes that have pictures.
        top3: Pictures whose class is among the three with the highest logits.
        log_loss: Mean negative log probability (base e) of the true class.
        calibrated_log_loss: The same at the fitted temperature.
        calibration_error: Expected calibration error of the net's own probabilities, 0 to 1.
        calibrated_error: The same at the fitted temperature.
        bins: The reliability diagram at the fitted temperature.
        acceptance: For each error rate of the calibration.
        classes: By name.
        groups: Accuracy by group; pictures of unknown group are not in it.
        confusion: (classes, classes) counts, rows are true classes.
    """

    accuracy: Share
    new_groups: tuple[float, float] | None
    macro_accuracy: float
    top3: Share
    log_loss: float
    calibrated_log_loss: float
    calibration_error: float
    calibrated_error: float
    bins: list[Bin]
    acceptance: list[Acceptance]
    classes: dict[str, ClassFigures]
    groups: dict[str, Share]
    confusion: list[list[int]]


class People(Enum):
    """Who is on the pictures of a set. A person here is a group: a signer, a session or a video."""

    NEW = "new people"
    SAME = "other pictures of the same people"
    UNKNOWN = "other pictures; who is on them is not known"

    @classmethod
    def of(cls, name: str, figures: SetFigures, known: Collection[str]) -> "People":
        """Who is on the pictures of the set `name`.

        Args:
            name: Of the set. The provided sets `dev` and `unseen` are of new people, unless its groups say otherwise.
            figures: Of the set.
            known: Names of sets with groups that are in training, too, or with pictures of unknown group.
        """
        if name not in known:
            return cls.NEW
        if sum(share.images for share in figures.groups.values()) == figures.accuracy.images:
            return cls.SAME
        return cls.NEW if name in ("dev", "unseen") else cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Promise:
    """For whom the accuracy of a set speaks, and how sure it is.

    Attributes:
        people: Who is on the pictures.
        low: Lower end of the 95 % interval, 0 to 1: over people if they are new, so that it holds for further people.
        high: Upper end.
        over_people: Whether the interval is over people. For new people it is not if they are fewer than five, or if
            some pictures have no group: it then says nothing about others.
    """

    people: People
    low: float
    high: float
    over_people: bool

    @classmethod
    def of(cls, name: str, figures: SetFigures, known: Collection[str]) -> "Promise":
        """The promise of the set `name`; for the arguments see `People.of`."""
        people = People.of(name, figures, known)
        if people is People.NEW and figures.new_groups:
            return cls(people, *figures.new_groups, True)
        return cls(people, figures.accuracy.low, figures.accuracy.high, False)


def people(figures: SetFigures) -> list[tuple[str, Share]]:
    """The groups of a set that have enough pictures to be judged alone, worst first."""
    enough = [item for item in figures.groups.items() if item[1].images >= FEWEST_PICTURES]
    return sorted(enough, key=lambda item: (item[1].share or 0, item[0]))


def worst_person(figures: SetFigures) -> tuple[str, Share] | None:
    """The group with the lowest accuracy, see `people`; None without at least two of them."""
    judged = people(figures)
    return judged[0] if len(judged) > 1 else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Accuracy on groups seen in training, minus accuracy on groups not seen.

    Attributes:
        seen: Name of the set of known groups.
        unseen: Name of the set of unknown groups.
        difference: -1 to 1.
        low: Lower end of its 95 % interval (Newcombe 1998), from intervals over groups if these are known.
        high: Upper end.
    """

    seen: str
    unseen: str
    difference: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """One sentence for the reader of a report."""
        points = f"{100 * abs(self.difference):.1f} points {'lower' if self.difference >= 0 else 'higher'}"
        interval = f"difference, 95 %: {100 * self.low:.1f} to {100 * self.high:.1f}"
        return f"accuracy is {points} on people never seen ({self.unseen}) than on {self.seen} ({interval})"


def count_confusion(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """Counts a confusion matrix.

    Args:
        labels: (N,) true classes, 0 to classes - 1.
        predictions: (N,) predicted classes, 0 to classes - 1.
        classes: Number of classes.

    Returns:
        (classes, classes) counts; rows are true classes, columns predicted ones.

    Raises:
        ValueError: A label or prediction is not in the range, or their numbers differ.
    """
    cells = np.ravel_multi_index((labels, predictions), (classes, classes))
    counts: Ints = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    return counts


def set_figures(
    logits: npt.NDArray[np.floating],
    labels: Ints,
    groups: Sequence[str],
    classes: Sequence[str],
    judged: Judged,
) -> SetFigures:
    """Computes the figures of one set.

    Args:
        logits: (N, classes), finite, N at least 1.
        labels: (N,) positions in `classes`.
        groups: (N,) names; "" if unknown.
        classes: Names.
        judged: What calibration makes of the pictures.
    """
    predicted = logits.argmax(1)
    right = predicted == labels
    confusion = count_confusion(labels, predicted, len(classes))
    hits, of_class, as_class = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    by_class = {
        name: ClassFigures(
            Share.of(int(hits[i]), int(of_class[i])),
            Share.of(int(hits[i]), int(as_class[i])),
            float(2 * hits[i] / (of_class[i] + as_class[i])) if of_class[i] + as_class[i] else None,
        )
        for i, name in enumerate(classes)
    }
    of_group = np.array(groups)
    by_group = {
        str(name): Share.of(int(right[of_group == name].sum()), int((of_group == name).sum()))
        for name in np.unique(of_group[of_group != ""])
    }
    whole = all(groups)  # otherwise the interval would leave out the pictures of unknown group
    raw, calibrated = (probabilities(logits, value).max(1) for value in (1.0, judged.temperature))
    bins = reliability(calibrated, right)
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    return SetFigures(
        accuracy=Share.of(int(right.sum()), len(right)),
        new_groups=wilson_of_groups([(share.right, share.images) for share in by_group.values()]) if whole else None,
        macro_accuracy=float((hits[of_class > 0] / of_class[of_class > 0]).mean()),
        top3=Share.of(int((likeliest == labels[:, None]).sum()), len(labels)),
        log_loss=log_loss(logits, labels),
        calibrated_log_loss=log_loss(logits, labels, judged.temperature),
        calibration_error=calibration_error(reliability(raw, right)),
        calibrated_error=calibration_error(bins),
        bins=bins,
        acceptance=[_acceptance(*each, right) for each in zip(judged.rejections, judged.accepted, strict=True)],
        classes=by_class,
        groups=by_group,
        confusion=confusion.tolist(),
    )


def gap(sets: dict[str, SetFigures], known: Collection[str]) -> Gap | None:
    """The accuracy on the holdout set (without one: on validation) minus the accuracy on the unseen set.

    Args:
        sets: The figures by set.
        known: Names of sets whose groups are in training, too. A set that was split off by group is not one of them:
            the difference between two sets of new groups is not a gap.

    Returns:
        None if there is no unseen set, or no set of known groups to compare it with.
    """
    seen = next((name for name in ("holdout", "val") if name in sets and name in known), None)
    if seen is None or "unseen" not in sets:
        return None
    one, other = (_with_ends(sets[name]) for name in (seen, "unseen"))
    return Gap(seen, "unseen", one[0] - other[0], *newcombe(one, other))


def figures_table(figures: Mapping[str, SetFigures], known: Collection[str], *, title: str, caption: str) -> Table:
    """One table with a row per set, 80 columns wide at most.

    Args:
        figures: By set.
        known: See `People.of`.
        title: Above the table.
        caption: Below the table; what the columns mean is added.
    """
    words = "people: new ones, or those of the training pictures; 95 %: for other pictures of such people; worst: the "
    words += "person with the lowest accuracy"
    table = Table(
        title=Text(printable(title)), caption=Text(f"{printable(caption)}\n{words}"), box=None, padding=(0, 1, 0, 0)
    )
    for heading in ("set", "people", "images", "right", "accuracy", "95 %", "worst", "macro", "loss", "ECE"):
        table.add_column(heading, justify="left" if heading in ("set", "people") else "right", no_wrap=True)
    for name, each in figures.items():
        share, promise, worst = each.accuracy, Promise.of(name, each, known), worst_person(each)
        table.add_row(
            name,
            {People.NEW: "new", People.SAME: "same", People.UNKNOWN: "-"}[promise.people],
            f"{share.images:,}",
            f"{share.right:,}",
            f"{share.share:.2%}",
            _range(promise.low, promise.high),
            f"{worst[1].share:.0%}" if worst else "-",
            f"{each.macro_accuracy:.1%}",
            f"{each.log_loss:.3f}",
            f"{each.calibration_error:.3f}",
        )
    return table


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f}-{100 * high:.1f}"


def _with_ends(figures: SetFigures) -> tuple[float, float, float]:
    accuracy = figures.accuracy
    low, high = figures.new_groups or (accuracy.low, accuracy.high)
    return accuracy.share or 0.0, low, high


def _acceptance(rejection: Rejection, taken: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> Acceptance:
    accepted = int(taken.sum())
    return Acceptance(*rejection, Share.of(accepted, len(right)), Share.of(int((taken & ~right).sum()), accepted))
