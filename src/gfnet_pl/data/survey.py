"""What a data set holds, before any of its pictures is decoded: what `gfnet fit DIR` chooses its settings by."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfnet_pl.data.archive import opened
from gfnet_pl.data.glance import colour_tells, sizes
from gfnet_pl.data.groups import assign_groups
from gfnet_pl.data.layouts import scan
from gfnet_pl.hand_signs.files import GROUPS, version_of


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        counts: Training pictures of each class, before any is kept out.
        provided: The splits besides train that come with the data.
        side: Median of the pictures' shorter sides, in pixels.
        shapes: Width / height that the middle nine tenths of the pictures have, least and greatest.
        colour: Whether colour tells anything, see `glance.colour_tells`.
        groups: How many groups the training pictures are of; 0 where one has none.
    """

    counts: dict[str, int]
    provided: frozenset[str]
    side: int
    shapes: tuple[float, float]
    colour: bool
    groups: int

    @property
    def pictures(self) -> int:
        """Training pictures, before any is kept out."""
        return sum(self.counts.values())


def survey(root: str, classes: list[str] | None = None, group_by: str | None = None) -> Survey:
    """Looks at a data set. Of many pictures, a sample is read.

    Args:
        root: A folder, a manifest, packed files, or a .zip of them.
        classes: The classes to take. Default: all.
        group_by: As `rule` for `groups.assign_groups`. Near-duplicates are not looked for.

    Raises:
        UserError: As for `layouts.scan` and `groups.assign_groups`.
    """
    found = scan(opened(Path(root)), classes)
    trained = [picture for picture in found.pictures if picture.split == "train"]
    rule = group_by or (GROUPS if version_of(found.folder) else None)
    if rule and rule != "near-duplicates":
        trained = assign_groups(trained, rule)
    files = [found.folder / picture.path for picture in trained]
    seen = sizes(files)
    if not len(seen):  # nothing can be read: the data module says why
        seen = np.array([[96, 96]])
    ratios = seen[:, 0] / seen[:, 1]
    groups = {picture.group for picture in trained}
    return Survey(
        counts=dict(Counter(picture.label for picture in trained)),
        provided=frozenset(picture.split for picture in found.pictures if picture.split != "train"),
        side=int(np.median(seen.min(1))),
        shapes=(float(np.quantile(ratios, 0.05)), float(np.quantile(ratios, 0.95))),
        colour=colour_tells(files),
        groups=0 if "" in groups else len(groups),
    )
