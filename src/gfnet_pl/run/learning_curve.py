"""How accuracy grows with the training pictures: what `gfnet curve` finds, writes into a run, and the report shows."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.figures import Promise
from gfnet_pl.evaluation.intervals import paired
from gfnet_pl.files import read_json, reading, replacing
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.results import Results

CAVEAT = "One net for each size, with the same seed and as many steps. Another seed moves each of them, too."
_WORTH = 0.01  # of accuracy: what fewer points than this bring is not worth a doubling


@dataclass(frozen=True)
class Point:
    """A net that was trained on a part of the training pictures.

    Attributes:
        share: The part, 0 to 1.
        run: Its run, "stage/version".
        pictures: Number of training pictures.
        per_class: Their mean number per class.
        groups: Number of their groups; 0 if a group is unknown.
        sets: Accuracy by evaluated set, with the ends of its 95 % interval: (share, low, high).
    """

    share: float
    run: str
    pictures: int
    per_class: float
    groups: int
    sets: dict[str, tuple[float, float, float]]

    @property
    def name(self) -> str:
        """The part in words."""
        return {0.25: "a quarter", 0.5: "half"}.get(self.share, "all")


@dataclass(frozen=True)
class LearningCurve:
    """The points of a run, and what the last doubling brought.

    Attributes:
        of: SHA-256 of the checkpoint with all the training pictures.
        thinned: What the smaller nets had fewer of: pictures, or whole groups ("people").
        points: From few pictures to all.
        set: The set whose figures say most about the pictures to come.
        people: Who is on its pictures, see `figures.People`.
        over_people: Whether the interval of the gain is over people, see `figures.Promise`.
        images: Number of its pictures.
        gain: Its accuracy with all training pictures minus that with half of them, and the ends of its 95 % interval.
    """

    of: str
    thinned: Literal["pictures", "people"]
    points: list[Point]
    set: str
    people: str
    over_people: bool
    images: int
    gain: tuple[float, float, float]

    @classmethod
    def of_results(
        cls, points: list[Point], half: Results, whole: Results, thinned: Literal["pictures", "people"]
    ) -> "LearningCurve":
        """Compares two nets on the set of `Results.trusted`, picture by picture.

        Args:
            points: From few pictures to all.
            half: Of the net that was trained on half of the pictures.
            whole: Of the net that was trained on all of them.
            thinned: See the attribute.

        Raises:
            UserError: The nets were tested on different pictures.
        """
        name = whole.trusted
        one, other = whole.sets[name], half.sets.get(name)
        if other is None or [picture.path for picture in one.pictures] != [picture.path for picture in other.pictures]:
            raise UserError(
                "some tested pictures have changed since the run was tested: run gfnet test, then gfnet curve"
            )
        right, before = one.predictions == one.labels, other.predictions == other.labels
        promise = Promise.of(name, whole.figures[name], whole.known)
        low, high = paired(right, before, one.groups if promise.over_people else None)
        gain = (float(right.mean() - before.mean()), low, high)
        sha = whole.checkpoint["sha256"]
        return cls(sha, thinned, points, name, promise.people.value, promise.over_people, len(right), gain)

    @property
    def helps(self) -> bool | None:
        """Whether twice as many would help: yes if the last doubling did; None if that cannot be told."""
        difference, low, high = self.gain
        return True if low > 0 and difference >= _WORTH else False if high < _WORTH else None

    @property
    def sentence(self) -> str:
        """What the last doubling brought, with its interval."""
        difference, low, high = (100 * value for value in self.gain)
        brought = f"brought {difference:.1f} points" if difference >= 0 else f"cost {-difference:.1f} points"
        verdict = {
            True: f"more {self.thinned} would help",
            False: f"more {self.thinned} no longer pay",
            None: f"from {self.images:,} pictures it cannot be told whether more {self.thinned} would help",
        }[self.helps]
        return f"twice as many {self.thinned} {brought} on {self.set} (95 %: {low:.1f} to {high:.1f}): {verdict}"


def point(share: float, run: RunFolder, results: Results, pictures: int, groups: int) -> Point:
    """The point of a tested run."""
    sets = {}
    for name, figures in results.figures.items():
        promise = Promise.of(name, figures, results.known)
        sets[name] = (figures.accuracy.share or 0.0, promise.low, promise.high)
    return Point(share, run.name, pictures, pictures / len(results.classes), groups, sets)


def write_learning_curve(run: RunFolder, curve: LearningCurve) -> None:
    """Writes the curve into a run's folder, in place of an earlier one."""
    with replacing(run.learning_curve) as file:
        file.write(json.dumps(asdict(curve), indent=1, allow_nan=False) + "\n")


def read_learning_curve(run: RunFolder) -> LearningCurve | None:
    """Reads the curve of a run; None if `gfnet curve` has not drawn it.

    Raises:
        UserError: It cannot be read.
    """
    if not run.learning_curve.is_file():
        return None
    with reading(run.learning_curve, "remove it"):
        found: dict[str, Any] = read_json(run.learning_curve)
        points = [Point(**each | {"sets": {k: tuple(v) for k, v in each["sets"].items()}}) for each in found["points"]]
        return LearningCurve(**found | {"points": points, "gain": tuple(found["gain"])})
