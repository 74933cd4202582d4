"""Which picture is in which split: drawn once, written to the run, read back by everything that follows it.

Pictures, or whole groups of them, are taken in the order of a hash of the seed and their name, so the draw is seeded,
stratified by class, and does not depend on how the file system lists them. `holdout` is what training never used
although it could have; `unused` is what `train_per_class` left over; `unseen` are groups that are in no other split,
and so is `dev`, which only the data can provide: recipes are chosen by the one and reported by the other.

A name's place in the order is its own, so added pictures move only those at the borders. Where each of 28 classes of
1,000 got 100 pictures more (ten seeds, a tenth for val), 0.2 % of the old pictures moved with no holdout set and 0.9 %
with one of 50 per class; 1.1 and 4.6 % of val went into training. Pictures that leave holdout go to val, the next in
the order. They reach training only if val is smaller than that, or provided. By group, 64 signers that became 70 moved
0.8 % of the old pictures, blocks of 50 in classes that grew from 1,000 to 1,100 moved 3.9 % (a class needs a whole
block more for val), more pictures of the same signers none. Because some
pictures do move, a run reads its own splits.csv and never draws again.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal

from gfnet_pl.data.manifest import Picture, read_manifest, write_manifest
from gfnet_pl.errors import UserError, check_range

log = logging.getLogger(__name__)

EVALUATED = ("val", "test", "holdout", "dev", "unseen")
TESTED = (*EVALUATED, "other")  # what `gfnet test` goes through; "other" are pictures of other data, see `layouts.scan`
SPLITS = ("train", *TESTED, "unused")


@dataclass(frozen=True)
class SplitRule:
    """How the training pictures that the data provide are split. A splits file takes the place of all of it.

    Args:
        group_by: Which pictures belong together (a signer, a session, a video): a regular expression on the path whose
            first group says it, "blocks" of neighbouring frames, or "near-duplicates". Default: a manifest's column.
        split_by: Whether val and holdout are drawn picture by picture or take whole groups.
        unseen_groups: Groups to keep out of everything else, as the set "unseen".
        val_fraction: Share of each class's training pictures kept for validation.
        holdout_per_class: Training pictures per class kept out for the holdout set. Of a class of which less than a
            third would be left to train on, a fifth is kept out instead.
        train_per_class: Train on at most this many pictures per class. Default: all.
        folds: Divide the training pictures into so many folds, and validate each by a net that was trained on the
            others, see `folds.draw_fold`. `gfnet fit` trains all of these nets, one after another.
        fold: The fold to validate, from 1. Default: each in turn.

    Raises:
        UserError: A value is out of range.
    """

    group_by: str | None = None
    split_by: Literal["image", "group"] = "image"
    unseen_groups: int = 0
    val_fraction: float = 0.1
    holdout_per_class: int = 0
    train_per_class: int | None = None
    folds: int | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        check_range("data.val_fraction", self.val_fraction, above=0, below=1)
        check_range("data.holdout_per_class", self.holdout_per_class, least=0)
        check_range("data.train_per_class", self.train_per_class, least=1)
        check_range("data.unseen_groups", self.unseen_groups, least=0)
        check_range("data.folds", self.folds, least=2)
        if self.fold is not None and self.folds is None:
            raise UserError("data.fold is one of data.folds: give that, too, or drop it")
        check_range("data.fold", self.fold, least=1, most=self.folds)
        if self.split_by not in ("image", "group"):
            raise UserError(f"data.split_by is {self.split_by!r}: it must be image or group")


def draw_splits(pictures: Iterable[Picture], rule: SplitRule, *, seed: int) -> list[Picture]:
    """Splits the training pictures of each class into train, val, holdout, unseen and unused; provided splits stay.

    By image the counts are exact. By group whole groups are taken, in the order of their hash, first for holdout and
    then for val, each as long as one of its classes has too few there. So a class gets at least what was asked, and
    exceeds it by less than one group where groups are of one class, or of all classes in equal parts (signers); where
    they are uneven, a class may get more while another waits for its share.

    Val gets `val_fraction` of a class's training pictures (less those of `unseen_groups`), rounded, at least one; it is
    ignored where a validation set is provided. A class's last picture is always trained on. Holdout takes less than was
    asked where a class is small, see `SplitRule`, and none by group where there are too few groups; a line says so.
    `train_per_class` is drawn by image. `unseen_groups` are taken before anything else is drawn, also where the rest is
    drawn by image.

    Args:
        pictures: What `layouts.scan` found, with groups where they are needed.
        rule: What to draw; its `group_by` has been applied before.
        seed: Another seed is another draw.

    Returns:
        The same pictures, each with its split, in the order in which they are written and read back: the order of an
        epoch counts on it.

    Raises:
        UserError: A class has too few groups, fewer groups than `unseen_groups` can be kept out, no class has a picture
            to spare for validation, or groups are needed and training pictures have none.
    """
    by_group = rule.split_by == "group"
    pictures = list(pictures)
    provided = [picture for picture in pictures if picture.split != "train"]
    pool = [picture for picture in pictures if picture.split == "train"]
    if by_group or rule.unseen_groups:
        need_groups(pool, "data.unseen_groups" if rule.unseen_groups else "data.split_by group")
    has_val = any(picture.split == "val" for picture in provided)
    unseen = first_groups(pool, rule.unseen_groups, seed, left=2 if by_group and not has_val else 1)
    drawn = [_moved(picture, "unseen") for picture in pool if picture.group in unseen] if unseen else []
    by_class: dict[str, list[Picture]] = {picture.label: [] for picture in pool}
    for picture in pool:
        if picture.group not in unseen:
            by_class[picture.label].append(picture)
    want = {label: _wanted(len(members), rule, has_val=has_val) for label, members in by_class.items()}
    of_group: dict[str, str] = {}
    if by_group:
        of_group = _evaluated_groups(by_class, want, seed)
        if rule.holdout_per_class and _lacking(by_class, want, of_group):
            want = {label: counts | {"holdout": 0} for label, counts in want.items()}
            of_group = _evaluated_groups(by_class, want, seed)
    if by_group and (lacking := _lacking(by_class, want, of_group)):
        raise _too_few(lacking[0], by_class[lacking[0]], want[lacking[0]], unseen=bool(unseen))
    if not has_val and not any(counts["val"] for counts in want.values()):
        raise UserError(
            "data.root: no class has two training pictures, one to train on and one for validation; add pictures, or "
            "a val folder"
        )
    for label, members in by_class.items():
        members.sort(key=lambda picture: place(seed, picture.path))
        if by_group:
            kept = [_moved(picture, of_group[picture.group]) for picture in members if picture.group in of_group]
            rest = [picture for picture in members if picture.group not in of_group]
        else:
            splits = [split for split, count in want[label].items() for _ in range(count)]
            kept = [_moved(picture, split) for picture, split in zip(members, splits, strict=False)]
            rest = members[len(kept) :]
        trained = len(rest[: rule.train_per_class])
        drawn += kept + rest[:trained] + [_moved(picture, "unused") for picture in rest[trained:]]
    sizes = {label: len(members) for label, members in by_class.items()}
    _tell_of_small_classes(sizes, want, rule.holdout_per_class, has_val=has_val)
    if by_group:
        warn_of_shared_groups(drawn, provided)
    return sorted(drawn + provided, key=attrgetter("path"))  # no two are equal, and texts sort faster


def thinned(pictures: Iterable[Picture], share: float, *, seed: int, by_group: bool) -> list[Picture]:
    """Leaves a share of the training pictures of each class in training; the others are unused. Other splits stay.

    Pictures, or whole groups of them, are taken in the order of their hash, so those of a smaller share are among those
    of a larger one.

    Args:
        pictures: With their splits, and groups if `by_group`.
        share: Above 0, at most 1.
        seed: Another seed is another choice.
        by_group: Take whole groups of a class, until it has its share: then it may get more, by less than one group.

    Returns:
        The same pictures, in the same order.
    """
    pictures = list(pictures)
    by_class: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.split == "train":
            by_class[picture.label].append(picture)
    kept: set[str] = set()
    for members in by_class.values():
        members.sort(key=lambda picture: place(seed, picture.path))
        want = max(1, round(share * len(members)))
        if by_group:
            members.sort(key=lambda picture: place(seed, picture.group))
            while want < len(members) and members[want].group == members[want - 1].group:
                want += 1
        kept.update(picture.path for picture in members[:want])
    return [_moved(p, "unused") if p.split == "train" and p.path not in kept else p for p in pictures]


def write_splits(path: Path, pictures: Iterable[Picture]) -> None:
    """Writes `path,label,split,group`, sorted, UTF-8."""
    write_manifest(path, pictures)


def read_splits(path: Path) -> list[Picture]:
    """Reads what `write_splits` wrote, or a run's older file without groups; the pictures need not be there.

    Raises:
        UserError: The file is missing or is not such a table.
    """
    splits = {split: split for split in ("train", *EVALUATED, "unused")}
    return read_manifest(path, key="data.splits", splits=splits, required=("path", "label", "split"))


def place(seed: int, name: str) -> bytes:
    """What sorts pictures, or groups, by chance: a hash of the seed and their name."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _moved(picture: Picture, split: str) -> Picture:
    return Picture(picture.path, picture.label, split, picture.group)


def need_groups(pool: list[Picture], option: str) -> None:
    """Raises UserError if a picture has no group; `option` is what needs them."""
    alone = [picture.path for picture in pool if not picture.group]
    if alone:
        raise UserError(
            f"{option} needs groups, and {len(alone):,} training pictures have none, the first is {alone[0]}; "
            "give data.group_by, or a group in every line of the manifest"
        )


def _wanted(count: int, rule: SplitRule, *, has_val: bool) -> dict[str, int]:
    """How many pictures of a class of `count` go to holdout and to val, so that some are left to train on."""
    val = 0 if has_val else min(max(1, round(rule.val_fraction * count)), max(0, count - 1))
    left = count - val - rule.holdout_per_class
    holdout = rule.holdout_per_class if 3 * left >= count else min(count // 5, max(0, count - val - 1))
    return {"holdout": min(holdout, rule.holdout_per_class), "val": val}


def first_groups(pool: list[Picture], count: int, seed: int, *, left: int = 1) -> set[str]:
    """The first `count` groups in the order of the seed, which are to be kept out as unseen.

    Args:
        pool: The training pictures.
        count: Number of groups.
        seed: Of the order.
        left: A group is passed over if without it a class would have fewer groups than this to train on.

    Raises:
        UserError: There are not so many that can be kept out.
    """
    if not count:
        return set()
    classes_of: defaultdict[str, set[str]] = defaultdict(set)
    for picture in pool:
        classes_of[picture.group].add(picture.label)
    have = Counter(label for labels in classes_of.values() for label in labels)
    least = {label: min(left, groups) for label, groups in have.items()}
    taken: set[str] = set()
    for group in sorted(classes_of, key=lambda group: place(seed, group)):
        if len(taken) < count and all(have[label] > least[label] for label in classes_of[group]):
            taken.add(group)
            have.subtract(classes_of[group])
    if len(taken) < count:
        raise UserError(
            f"data.unseen_groups is {count}: the training pictures have {len(classes_of)} groups, and at most "
            f"{len(taken)} of them can be kept out, so that each class has some to train on; lower it"
        )
    return taken


def _evaluated_groups(
    by_class: Mapping[str, list[Picture]], want: Mapping[str, Mapping[str, int]], seed: int
) -> dict[str, str]:
    """The split of each group that goes to holdout or val."""
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for label, members in by_class.items():
        for group, count in Counter(picture.group for picture in members).items():
            sizes[group][label] = count
    order = sorted(sizes, key=lambda group: place(seed, group))
    left = {label: len(members) for label, members in by_class.items()}
    taken: dict[str, str] = {}
    for split in ("holdout", "val"):
        missing = {label: want[label][split] for label in by_class}
        for group in order:
            wanted = group not in taken and any(missing[label] > 0 for label in sizes[group])
            if wanted and all(left[label] > count for label, count in sizes[group].items()):  # some of each class stay
                taken[group] = split
                for label, count in sizes[group].items():
                    missing[label] -= count
                    left[label] -= count
    return taken


def _lacking(
    by_class: Mapping[str, list[Picture]], want: Mapping[str, Mapping[str, int]], of_group: Mapping[str, str]
) -> list[str]:
    """Classes whose groups do not give them what they want and something to train on."""
    got = {
        label: Counter(of_group.get(picture.group, "train") for picture in members)
        for label, members in by_class.items()
    }
    return [
        label
        for label in by_class
        if not got[label]["train"] or any(got[label][split] < count for split, count in want[label].items())
    ]


def _too_few(label: str, members: list[Picture], want: Mapping[str, int], *, unseen: bool) -> UserError:
    lower = ["data.val_fraction", *["data.unseen_groups"] * unseen]
    return UserError(
        f"class {label!r} has {len(members)} pictures in {len({picture.group for picture in members})} groups"
        f"{' outside unseen' if unseen else ''}: too few for {want['val']} val and at least one group to train on; "
        f"lower {' or '.join(lower)}, add groups, or give --data.split_by image"
    )


def _tell_of_small_classes(
    sizes: Mapping[str, int], want: Mapping[str, Mapping[str, int]], asked: int, *, has_val: bool
) -> None:
    """One line each: classes with a smaller holdout set than was asked, and those of which nothing is evaluated."""
    fewer = sorted({counts["holdout"] for counts in want.values() if counts["holdout"] < asked})
    if fewer:
        log.info(
            "data.holdout_per_class %d would leave too little to train on in %d of %d classes: %s of each are held out",
            asked,
            sum(counts["holdout"] < asked for counts in want.values()),
            len(want),
            fewer[0] if len(fewer) == 1 else f"{fewer[0]} to {fewer[-1]}",
        )
    if single := [label for label, size in sizes.items() if size == 1 and not has_val]:
        log.warning(
            "classes with one picture, which is trained on and never evaluated: %s%s; add pictures of them",
            ", ".join(map(repr, single[:5])),
            f" and {len(single) - 5:,} more" if len(single) > 5 else "",
        )


def warn_of_shared_groups(drawn: list[Picture], provided: list[Picture]) -> None:
    """Warns of provided sets with groups that training has, too."""
    trained = {picture.group for picture in drawn if picture.split == "train"}
    for split in EVALUATED:
        own = [picture for picture in provided if picture.split == split]
        shared = [picture for picture in own if picture.group in trained]
        if shared:
            log.warning(
                "data: %s of the %s pictures of the provided %s set are of groups that training has too (%d groups): "
                "their accuracy says nothing about new ones",
                f"{len(shared):,}",
                f"{len(own):,}",
                split,
                len({picture.group for picture in shared}),
            )
