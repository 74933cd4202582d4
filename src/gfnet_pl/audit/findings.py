"""What an audit has found: plain values that are JSON as they are, and the same in a few lines for people."""

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from gfnet_pl.data.duplicates import THRESHOLD
from gfnet_pl.messages import printable

_SHOWN = 3  # examples in a line


@dataclass(frozen=True, slots=True)
class Pair:
    """Two twins; `correlation` is `Audit.border` to 1, and 1 only where all pixels are equal."""

    paths: tuple[str, str]
    labels: tuple[str, str]
    splits: tuple[str, str]
    correlation: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Pictures with a twin of one kind.

    Attributes:
        exact: Pictures with a twin of equal pixels.
        near: Other pictures with a twin that correlates `Audit.border` or more.
        pairs: The worst, a few: different clusters first, then the higher correlation.
    """

    exact: int
    near: int
    pairs: list[Pair]


@dataclass(frozen=True, slots=True)
class Leak:
    """How many evaluated pictures have a near twin in training, by one way to split.

    Attributes:
        split: Which way.
        sets: Evaluated set -> (pictures, those with a twin in training).
        share: Of all sets together, 0 to 1; None where nothing is evaluated.
        note: Why there is no share.
    """

    split: str
    sets: dict[str, tuple[int, int]]
    share: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found; plain values, so that it is JSON as it is. Broken pictures are in `broken` only.

    Attributes:
        folder: The folder that the paths are below.
        classes: Class -> pictures in all splits.
        splits: Split -> pictures.
        rarest: Class with the fewest training pictures.
        commonest: Class with the most.
        imbalance: Training pictures of the commonest to those of the rarest; None where the rarest has none.
        sizes: "width x height" of the files -> pictures, the most frequent first.
        modes: Pillow's mode of the files -> pictures, the most frequent first.
        broken: (path, reason).
        left_out: (path, reason) of what the layout does not count as a picture of a class.
        border: The correlation from which two pictures are near twins, see `duplicates.border_of`.
        distinct: Clusters of near duplicates: how many really different pictures there are.
        within_split: Twins in one split, of `--splits` where given.
        across_splits: Twins in two splits.
        across_classes: Twins under two classes: contradictory labels.
        leaks: One for each way to split.
    """

    folder: str
    classes: dict[str, int]
    splits: dict[str, int]
    rarest: str
    commonest: str
    imbalance: float | None
    sizes: dict[str, int]
    modes: dict[str, int]
    broken: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    border: float
    distinct: int
    within_split: Duplicates
    across_splits: Duplicates
    across_classes: Duplicates
    leaks: list[Leak]

    def facts(self) -> list[tuple[str, str]]:
        """(what, finding) in one line each, for people."""
        total = sum(self.classes.values())
        splits = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        balance = "every class has as many training pictures"
        if self.imbalance != 1:
            ratio = "nothing to train on" if self.imbalance is None else f"{self.imbalance:,.1f} to 1"
            balance = f"commonest {self.commonest}, rarest {self.rarest}: {ratio}"
        facts = [
            ("pictures", f"{total:,} in {len(self.classes)} classes: {splits}"),
            ("balance", balance),
            ("sizes", _most(self.sizes)),
            ("modes", _most(self.modes)),
            ("broken", _examples(self.broken)),
            ("twins", _meaning(self.border)),
            ("really different", f"{self.distinct:,} clusters of near duplicates"),
            ("twins within a split", _counts(self.within_split, total)),
            ("twins across splits", _counts(self.across_splits, total)),
            ("twins across classes", _counts(self.across_classes, total)),
        ]
        for leak in self.leaks:
            text = leak.note
            if leak.share is not None:
                sets = ", ".join(f"{leaked:,} of {count:,} {name}" for name, (count, leaked) in leak.sets.items())
                text = f"{leak.share:.1%} of evaluated pictures have a near twin in training ({sets})"
            facts.append((f"leak, {leak.split}", text))
        return facts


def findings_table(report: Audit) -> Table:
    """`Audit.facts` as a table."""
    table = Table(show_header=False, title=Text(printable(report.folder)))
    for what, finding in report.facts():
        table.add_row(Text(what), Text(printable(finding)))
    return table


def _meaning(border: float) -> str:
    text = f"a correlation of {border:.4g} or more"
    return text if border == THRESHOLD else f"{text}, not {THRESHOLD}: pictures of different classes look alike"


def _most(counts: dict[str, int]) -> str:
    names = list(counts)
    text = ", ".join(f"{name} ({counts[name]:,})" for name in names[:_SHOWN])
    return f"{text} and {len(names) - _SHOWN} others" if len(names) > _SHOWN else text


def _examples(entries: list[tuple[str, str]]) -> str:
    if not entries:
        return "none"
    text = "; ".join(f"{path} ({reason})" for path, reason in entries[:_SHOWN])
    return f"{len(entries):,}: {text}{' …' if len(entries) > _SHOWN else ''}"


def _counts(found: Duplicates, total: int) -> str:
    share = (found.exact + found.near) / total if total else 0
    return f"{found.exact:,} exact, {found.near:,} near: {share:.1%} of the pictures"
