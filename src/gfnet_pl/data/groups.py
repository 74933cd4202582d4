"""Which pictures belong together: the signer, session or video that a split must not cut.

Neighbouring frames of a video are near duplicates, so a random split measures memory. A group comes from the file names
(a regular expression), from their order (`blocks`), or from the pictures themselves (`near-duplicates`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError

# Frames per block. 50 are two seconds of video: only frames at the ends of a block have twins in another block. A class
# below 1,000 pictures gets shorter ones, so that 20 blocks are there to choose from and a tenth for validation is two.
# The lengths are few and far apart, so that adding some pictures seldom changes them, which would cut all blocks again.
_LENGTHS = (50, 20, 10, 5, 2, 1)
_BLOCKS = 20
_DIGITS = 20
_NUMBERS = re.compile(r"(\d+)")


def assign_groups(
    pictures: Sequence[Picture], rule: str, clusters: Callable[[], Sequence[int]] | None = None
) -> list[Picture]:
    r"""Gives each picture its group.

    Args:
        pictures: What `layouts.scan` found.
        rule: One of

            - a regular expression, searched in the path: what its group named `group`, else its first, matches is the
              picture's group. Pictures of several classes may share one, as a signer makes all signs:
              `(signer\d+)`. Provided test pictures that do not match stay without a group.
            - `blocks`: a class's files, in each provided split, are put in the natural order of the numbers in their
              names (2 before 10) and cut into runs of neighbours: 50 per run, fewer in a class below 1,000. A run that
              is at least half full ends where another clip begins, that is where more than the last number in its path
              changes. A gap in the numbers does not end a run: files are often deleted, and a block with a gap does no
              harm. Ids are "A/block003", for a provided test set "test/A/block003". Files added at the end of the order
              leave the other blocks as they are.
            - `near-duplicates`: the clusters of pictures that look alike, as "cluster000123".
        clusters: Gives one cluster number per picture, in their order; called for `near-duplicates` only.

    Returns:
        The pictures in the same order, with their groups.

    Raises:
        UserError: The rule is no such expression, or training pictures do not match it.
        ValueError: `near-duplicates` without `clusters`, or with a number of them that is not the pictures'.
    """
    if rule == "blocks":
        return _blocks(pictures)
    if rule == "near-duplicates":
        if clusters is None:
            raise ValueError("near-duplicates needs the clusters")
        return [
            picture._replace(group=f"cluster{number:06}") for picture, number in zip(pictures, clusters(), strict=True)
        ]
    return _matches(pictures, rule)


def kinds_of(pictures: Sequence[Picture]) -> npt.NDArray[np.int64]:
    """(N, 2) numbers of each picture's class and of its group, for `duplicates.border_of`.

    A picture whose group is not known has one of its own.
    """
    labels = {label: number for number, label in enumerate({picture.label for picture in pictures})}
    groups = {group: number for number, group in enumerate({picture.group for picture in pictures})}
    codes = [
        (labels[picture.label], groups[picture.group] if picture.group else -1 - place)
        for place, picture in enumerate(pictures)
    ]
    return np.array(codes, np.int64).reshape(-1, 2)


def _matches(pictures: Sequence[Picture], rule: str) -> list[Picture]:
    advice = "put the group in brackets, as in '(signer[0-9]+)', or give blocks or near-duplicates"
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UserError(f"data.group_by: {rule!r} is no regular expression ({error}); {advice}") from None
    if not pattern.groups:
        raise UserError(f"data.group_by: {rule!r} does not say which part is the group; {advice}")
    which = pattern.groupindex.get("group", 1)
    grouped, missed = [], []
    for picture in pictures:
        match = pattern.search(picture.path)
        group = (match and match[which]) or ""
        if not group and picture.split == "train":
            missed.append(picture.path)
        grouped.append(Picture(picture.path, picture.label, picture.split, group))
    if missed:
        raise UserError(
            f"data.group_by: {rule!r} finds no group in {len(missed):,} of the training pictures, the first is "
            f"{missed[0]}; change the expression, or leave those pictures out"
        )
    return grouped


def _blocks(pictures: Sequence[Picture]) -> list[Picture]:
    members = defaultdict(list)
    for position, picture in enumerate(pictures):
        members[picture.label, picture.split].append(position)
    group = [""] * len(pictures)
    for (label, split), positions in members.items():
        prefix = label if split == "train" else f"{split}/{label}"
        for number, run in enumerate(_runs([(pictures[position].path, position) for position in positions])):
            for position in run:
                group[position] = f"{prefix}/block{number:03}"
    return [Picture(*picture[:3], name) for picture, name in zip(pictures, group, strict=True)]


def _runs(files: list[tuple[str, int]]) -> Iterator[list[int]]:
    """Cuts the files of a class, (path, position), into runs of positions."""
    length = next(length for length in _LENGTHS if length * _BLOCKS <= len(files) or length == 1)
    run: list[int] = []
    clip = ""
    for _, _, of_clip, position in sorted((*_natural(path), position) for path, position in files):
        before, clip = clip, of_clip
        if len(run) == length or (2 * len(run) >= length and clip != before):
            yield run
            run = []
        run.append(position)
    yield run


def _natural(path: str) -> tuple[str, str, str]:
    """What sorts the path naturally, the path, and its clip: the path without its last number, which is the frame's."""
    texts = _NUMBERS.split(path)  # texts and numbers in turn
    clip = "".join(texts[:-2]) + texts[-1]
    texts[1::2] = [number.zfill(_DIGITS) for number in texts[1::2]]
    return "".join(texts), path, clip
