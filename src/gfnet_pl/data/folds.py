"""K folds: K runs divide the training pictures, so that each is validated by the one net that was not trained on it.

The folds are drawn once for all runs: they depend on the seed, the names and nothing else, and each run takes one of
them for validation and trains on the others. Where pictures have groups, whole groups are divided.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.splits import SplitRule, first_groups, need_groups, place, warn_of_shared_groups
from gfnet_pl.errors import UserError


def draw_fold(pictures: Iterable[Picture], rule: SplitRule, *, seed: int) -> list[Picture]:
    """Splits the training pictures into val, which is the fold `rule.fold` of `rule.folds`, train, unseen and unused.

    A provided validation set is divided like the training pictures: every picture is in one fold. Other provided sets
    stay. By image each class is divided, and the sizes of the folds differ by one picture at most. Whole groups are
    divided where every picture has one, and with `split_by` group. `unseen_groups` are taken before, and
    `train_per_class` after that. Holdout is not drawn, as a picture in it would be scored by no net.

    Args:
        pictures: As for `splits.draw_splits`.
        rule: With `folds` and `fold`.
        seed: Another seed is another division.

    Returns:
        As `splits.draw_splits`.

    Raises:
        UserError: There are more folds than pictures of a class, or than groups; a class would be in one fold only; or
            groups are needed and pictures have none.
    """
    assert rule.folds
    if rule.fold is None:
        raise UserError(f"data.fold: which of the {rule.folds} folds is to be validated? Give 1 to {rule.folds}")
    pictures = list(pictures)
    provided = [picture for picture in pictures if picture.split not in ("train", "val")]
    pool = [picture._replace(split="train") for picture in pictures if picture.split in ("train", "val")]
    if rule.split_by == "group" or rule.unseen_groups:
        need_groups(pool, "data.unseen_groups" if rule.unseen_groups else "data.split_by group")
    unseen = first_groups(pool, rule.unseen_groups, seed)
    drawn = [picture._replace(split="unseen") for picture in pool if picture.group in unseen] if unseen else []
    pool = sorted((p for p in pool if p.group not in unseen), key=lambda picture: place(seed, picture.path))
    by_group = all(picture.group for picture in pool)
    folds = _of_groups(pool, rule.folds, seed) if by_group else _of_pictures(pool, rule.folds)
    trained: Counter[str] = Counter()
    for picture, fold in zip(pool, folds, strict=True):
        split = "val" if fold == rule.fold else "train"
        trained[picture.label] += split == "train"
        too_many = split == "train" and rule.train_per_class and trained[picture.label] > rule.train_per_class
        drawn.append(picture._replace(split="unused" if too_many else split))
    if by_group:
        warn_of_shared_groups(drawn, provided)
    return sorted(drawn + provided, key=attrgetter("path"))


def _of_pictures(pool: Sequence[Picture], folds: int) -> list[int]:
    """The fold of each picture, from 1: those of a class in turn, and the next class begins where it ended."""
    sizes = Counter(picture.label for picture in pool)
    label, least = min(sizes.items(), key=lambda item: item[1])
    if least < folds:
        advice = f"give at most {least}, or add pictures" if least > 1 else "add pictures, or drop data.folds"
        raise UserError(
            f"data.folds is {folds}: class {label!r} has {least} picture{'s' * (least > 1)}, and each fold needs one; "
            f"{advice}"
        )
    following, start = {}, 0
    for label in sorted(sizes):
        following[label] = start
        start += sizes[label]
    found = []
    for picture in pool:
        found.append(following[picture.label] % folds + 1)
        following[picture.label] += 1
    return found


def _of_groups(pool: Sequence[Picture], folds: int, seed: int) -> list[int]:
    """The fold of each picture, from 1: the largest groups first, each to the fold with the least of its classes."""
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for picture in pool:
        groups[picture.group][picture.label] += 1
    if len(groups) < folds:
        advice = f"give at most {len(groups)}" if len(groups) > 1 else "give another data.group_by, or drop data.folds"
        raise UserError(f"data.folds is {folds}: the pictures are of {len(groups)} groups, which stay whole; {advice}")
    totals = Counter(picture.label for picture in pool)
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    of_group = {}
    for group in sorted(groups, key=lambda name: (-groups[name].total(), place(seed, name))):
        counts = groups[group]
        fold = min(range(folds), key=lambda each: (_alike(counts, held[each], totals), held[each].total()))
        held[fold] += counts
        of_group[group] = fold + 1
    for label, total in totals.items():
        if any(fold[label] == total for fold in held):
            raise UserError(
                f"data.folds is {folds}: all groups of class {label!r} are in one fold, and the net that is scored on "
                "them would not know the class; add groups of it, or give another data.group_by"
            )
    return [of_group[picture.group] for picture in pool]


def _alike(counts: Mapping[str, int], held: Mapping[str, int], totals: Mapping[str, int]) -> float:
    """How much of the classes of a group a fold has already; a class counts by its share, whatever its size."""
    return sum(count * held[label] / totals[label] ** 2 for label, count in counts.items() if label in held)
