"""`gfnet audit`: what a folder of pictures holds, and whether its splits can be believed.

Counts, sizes and broken files; duplicates within a split, across splits and across classes; and one number for each way
to split: the share of validation and test pictures with a near twin in training. What a net scores on those says how
well it remembers. All pictures are compared with each other once (`duplicates.clusters`). All twins of a picture are in
its cluster, so that every later question costs little.

Pixels are those of the data module's cache: grey, 96 x 96. Two files that decode to the same pixels there are exact
duplicates, whatever their bytes.
"""

import json
import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console

from gfnet_pl.audit.findings import Audit, Duplicates, Leak, Pair, findings_table
from gfnet_pl.audit.page import write_page
from gfnet_pl.data.archive import opened
from gfnet_pl.data.cache import Cached, cached_images
from gfnet_pl.data.canvas import Canvas
from gfnet_pl.data.collection import named_root
from gfnet_pl.data.decode import open_picture
from gfnet_pl.data.duplicates import Ints, border_of, clusters, nearest_twins
from gfnet_pl.data.groups import assign_groups, kinds_of
from gfnet_pl.data.layouts import Found, Picture, scan, table_of
from gfnet_pl.data.prints import Prints, fingerprints
from gfnet_pl.data.splits import EVALUATED, SplitRule, draw_splits, read_splits
from gfnet_pl.errors import OneLineParser, UserError
from gfnet_pl.files import check_output, refuse_url
from gfnet_pl.hand_signs.files import hand_signs_root
from gfnet_pl.processes import cores

CANVAS = Canvas(96, 96)  # the data module's default, so that its cache is used
WORST = 24  # pairs shown of each kind

_CHUNK = 256
_QUERIES = 512


def audit(found: Found, cached: Cached, *, splits: Path | None = None, group_by: str | None = None) -> Audit:
    """Looks at all pictures of a folder.

    Args:
        found: The folder's pictures.
        cached: Their pixels, in the same order.
        splits: A run's splits.csv, the split in use.
        group_by: Also draw a split by the groups of this rule.

    Raises:
        UserError: `splits` cannot be read or is of other pictures, or the rule does not fit.
    """
    kept = np.flatnonzero(cached.rows >= 0)
    pictures = [found.pictures[position] for position in kept]
    in_use = _in_use(pictures, splits, found.folder) if splits else [picture.split for picture in pictures]
    prints = fingerprints(cached.images, cached.rows[kept])
    border = border_of(prints, kinds_of(pictures))
    cluster = clusters(prints, border)

    def duplicates(codes: Ints, *, across: bool) -> Duplicates:
        twin, correlation = _twins(prints, cluster, border, codes, across=across)
        exact = int((correlation == 1).sum())
        worst = _worst(pictures, in_use, cluster, twin, correlation)
        return Duplicates(exact, int((twin >= 0).sum()) - exact, worst)

    def leak(title: str, drawn: Sequence[Picture]) -> Leak:
        split_of = {picture.path: picture.split for picture in drawn}
        return _leak(title, prints, cluster, border, [split_of.get(picture.path, "unused") for picture in pictures])

    def drawn_leak(title: str, drawn_from: list[Picture], split_by: Literal["image", "group"]) -> Leak:
        try:
            drawn = draw_splits(drawn_from, SplitRule(split_by=split_by), seed=1)
        except UserError as error:
            return Leak(title, {}, None, f"cannot be drawn: {error}")
        return leak(title, drawn)

    pool = [picture for picture in pictures if picture.split == "train"]
    leaks = [drawn_leak("random split", pool, "image")]
    if len(pool) < len(pictures):
        leaks.append(leak("as provided", pictures))
    if splits:
        leaks.append(_leak(f"in use, {splits}", prints, cluster, border, in_use))
    if group_by:
        mine = [int(c) for c, picture in zip(cluster, pictures, strict=True) if picture.split == "train"]
        leaks.append(drawn_leak(f"by group, {group_by}", assign_groups(pool, group_by, lambda: mine), "group"))

    labels = Counter({picture.label: 0 for picture in found.pictures})
    trained = labels.copy()
    labels.update(picture.label for picture in pictures)
    trained.update(p.label for p, split in zip(pictures, in_use, strict=True) if split == "train")
    rarest, commonest = min(trained, key=lambda name: trained[name]), max(trained, key=lambda name: trained[name])
    split_codes = _numbered(in_use, besides="unused")
    label_codes = _numbered([picture.label for picture in pictures])
    sizes, modes = _headers([found.folder / picture.path for picture in pictures])
    return Audit(
        folder=os.fsencode(found.folder).decode(errors="backslashreplace"),  # a name need not be UTF-8
        classes=dict(labels),
        splits=dict(Counter(in_use).most_common()),
        rarest=rarest,
        commonest=commonest,
        imbalance=trained[commonest] / trained[rarest] if trained[rarest] else None,
        sizes=dict(sizes.most_common()),
        modes=dict(modes.most_common()),
        broken=[(str(path), reason) for path, reason in cached.broken],
        left_out=list(found.left_out),
        border=border,
        distinct=len(np.unique(cluster)),
        within_split=duplicates(split_codes, across=False),
        across_splits=duplicates(split_codes, across=True),
        across_classes=duplicates(label_codes, across=True),
        leaks=leaks,
    )


def run_audit(args: list[str]) -> None:
    """Runs `gfnet audit` and prints what it finds.

    Raises:
        UserError: The command line, the folder or a file that it names is wrong.
    """
    parser = OneLineParser("gfnet audit", description="What a folder of pictures holds, and what its splits leak.")
    where = "in any layout that fit reads; default: the embedded data set"
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        help=f"folder of class folders, its .zip, or packed files, {where}",
    )
    parser.add_argument("--splits", metavar="FILE", type=Path, help="a run's splits.csv: the split in use")
    parser.add_argument("--group-by", metavar="RULE", help="also draw a split by group, as data.group_by would")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--page", metavar="FILE.html", type=Path, help="write the worst pairs as one HTML file")
    values = parser.parse_args(args)
    if values.page is not None:
        check_output("--page", values.page)
    if values.folder:
        refuse_url("gfnet audit", values.folder)
    found = scan(opened(Path(named_root(str(values.folder)))) if values.folder else hand_signs_root())
    cached = cached_images(found.folder, [picture.path for picture in found.pictures], CANVAS)
    report = audit(found, cached, splits=values.splits, group_by=values.group_by)
    if values.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        console = Console()
        console.print(table_of(found.pictures, found.left_out))
        console.print(findings_table(report))
    if values.page is not None:
        row = dict(zip((picture.path for picture in found.pictures), cached.rows, strict=True))
        write_page(values.page, report, lambda path: cached.images[row[path]])


def _in_use(pictures: list[Picture], splits: Path, folder: Path) -> list[str]:
    """The split that each picture has in the file; "unused" for those added since."""
    split_of = {picture.path: picture.split for picture in read_splits(splits)}
    if not any(picture.path in split_of for picture in pictures):
        raise UserError(
            f"--splits: {splits} names none of the pictures in {folder}; give the folder that it was made of"
        )
    return [split_of.get(picture.path, "unused") for picture in pictures]


def _numbered(names: Sequence[str], *, besides: str | None = None) -> Ints:
    """(N,) a number for each name; -1, which takes no part, for one of them."""
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {besides}))}
    return np.array([numbers.get(name, -1) for name in names], np.int64)


def _twins(
    prints: Prints, cluster: Ints, border: float, codes: Ints, *, across: bool
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The best twin of each picture under another code, or under its own; -1 where there is none."""
    twin, correlation = np.full(len(codes), -1), np.zeros(len(codes), np.float32)
    for code in np.unique(codes[codes >= 0]):
        mine = codes == code
        queries = np.flatnonzero(mine)
        pool = np.flatnonzero((codes >= 0) & ~mine) if across else queries
        twin[queries], correlation[queries] = _twins_in_clusters(prints, cluster, border, queries, pool)
    return twin, correlation


def _twins_in_clusters(
    prints: Prints, cluster: Ints, border: float, queries: Ints, pool: Ints
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """`nearest_twins` at a small part of its cost: only pictures of about the same clusters are compared."""
    pool = pool[np.argsort(cluster[pool], kind="stable")]
    order = np.argsort(cluster[queries], kind="stable")
    twin, correlation = np.full(len(queries), -1), np.zeros(len(queries), np.float32)
    for start in range(0, len(order), _QUERIES):
        part = order[start : start + _QUERIES]
        first, last = cluster[queries[part[[0, -1]]]]
        near = pool[np.searchsorted(cluster[pool], first) : np.searchsorted(cluster[pool], last, "right")]
        twin[part], correlation[part] = nearest_twins(prints, queries[part], near, border)
    return twin, correlation


def _worst(
    pictures: list[Picture], splits: list[str], cluster: Ints, twin: Ints, correlation: npt.NDArray[np.float32]
) -> list[Pair]:
    order = np.argsort(-correlation, kind="stable")
    seen: dict[int, set[tuple[int, int]]] = defaultdict(set)
    ranked = []
    for one in order[twin[order] >= 0].tolist():
        pair, before = (min(one, int(twin[one])), max(one, int(twin[one]))), seen[int(cluster[one])]
        if pair not in before:
            ranked.append((len(before), -float(correlation[one]), pair))
            before.add(pair)
    return [
        Pair(
            paths=(pictures[one].path, pictures[other].path),
            labels=(pictures[one].label, pictures[other].label),
            splits=(splits[one], splits[other]),
            correlation=math.floor(-negative * 10_000) / 10_000,  # rounding would make a 1 of what is not equal
        )
        for _, negative, (one, other) in sorted(ranked)[:WORST]
    ]


def _leak(title: str, prints: Prints, cluster: Ints, border: float, splits: Sequence[str]) -> Leak:
    split = np.array(splits, str)
    evaluated = np.isin(split, EVALUATED)
    if not evaluated.any():
        return Leak(title, {}, None, "no validation or test pictures")
    queries = np.flatnonzero(evaluated)
    twin, _ = _twins_in_clusters(prints, cluster, border, queries, np.flatnonzero(split == "train"))
    leaked = np.zeros(len(split), bool)
    leaked[queries] = twin >= 0
    sets = {name: (int((split == name).sum()), int(leaked[split == name].sum())) for name in EVALUATED if name in split}
    return Leak(title, sets, int(leaked.sum()) / int(evaluated.sum()))


def _headers(paths: Sequence[Path]) -> tuple[Counter[str], Counter[str]]:
    """Sizes and modes of the files themselves, before the cache has made all alike; pixels are not decoded."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()

    def read(start: int) -> list[tuple[str, str]]:
        found = []
        for path in paths[start : start + _CHUNK]:
            with open_picture(path) as image:
                found.append((f"{image.width} x {image.height}", image.mode))
        return found

    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only the header is read
        for part in threads.map(read, range(0, len(paths), _CHUNK)):
            sizes.update(size for size, _ in part)
            modes.update(mode for _, mode in part)
    return sizes, modes
