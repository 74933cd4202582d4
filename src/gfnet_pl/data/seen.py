"""Which pictures a net was trained on, told by their content: where other data are scored, these are left out.

Pictures are the same if they decode to the same pixels, whatever their names. Near twins are not found here: `gfnet
audit` finds those of one folder.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gfnet_pl.data.manifest import Picture
from gfnet_pl.data.prints import digests_of

_NONE = np.empty(0, np.uint64)


class Seen(NamedTuple):
    """The pictures that a net was trained on.

    Attributes:
        digests: (K,) of their pixels, see `prints.Prints`; sorted, each once.
        paths: Their paths below the data's root. They count only where the digests are missing, or were made by another
            version that may decode to other pixels; otherwise this is empty.
    """

    digests: npt.NDArray[np.uint64] = _NONE
    paths: frozenset[str] = frozenset()

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> "Seen":
        """The pictures in these rows of the cache."""
        return cls(np.unique(digests_of(images, rows)))

    def joined(self, other: "Seen") -> "Seen":
        """What either of two has seen."""
        return Seen(np.union1d(self.digests, other.digests), self.paths | other.paths)

    def among(
        self, pictures: Sequence[Picture], images: npt.NDArray[np.uint8], rows: Iterable[int]
    ) -> npt.NDArray[np.bool_]:
        """(N,) whether each picture was trained on.

        Args:
            pictures: N pictures.
            images: (rows, H, W) uint8.
            rows: (N,) row of each picture.
        """
        by_path = np.array([picture.path in self.paths for picture in pictures], bool)
        return by_path | np.isin(digests_of(images, list(rows)), self.digests)
