"""Which files are in a folder and below it: one pass of the system's listing, without asking about single files.

Hidden files, OS clutter and runs are ignored. Other files that are no pictures are counted by suffix. A
folder that cannot be read is an error, because a set that is silently smaller is worse. No file is listed twice,
whatever links there are.
"""

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jfif .bmp .gif .tif .tiff .webp .pgm .ppm .avif .heic .heif .hif .jp2 .j2k .jpx".split()
)
_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_CLUTTER |= {"hand_signs.json", "signers.json", "signers.csv"}  # the embedded set's own


# Files that only training writes, also that of others with Lightning. What lies beside and below them is no class.
_OF_A_RUN = re.compile(r"run\.json|events\.out\.tfevents\..*|.*\.ckpt")


class Listing(NamedTuple):
    """A folder's entries as paths below the tree's root, sorted."""

    folders: list[str]
    links: list[str]  # to folders
    pictures: list[str]


class Tree:
    """Lists folders below `root`, each once, without asking the system about single files; keeps what it leaves out."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self.left_out: list[tuple[str, str]] = []
        self.others: Counter[str] = Counter()  # files that are no pictures, by suffix
        self._followed = [os.path.realpath(root)]
        self._picture_links: set[str] = set()
        self._listings: dict[str, Listing] = {}
        self._runs: set[str] = set()  # folders that hold a file of `_OF_A_RUN`, or nothing but such folders

    def listing(self, path: str) -> Listing:
        if path not in self._listings:
            try:
                self._listings[path] = self._without_output(path, self._list(path))
            except OSError as error:
                name = error.filename or os.path.join(self.root, path)
                raise UserError(f"{name} cannot be read ({error.strerror}); make it readable or remove it") from None
        return self._listings[path]

    def _without_output(self, path: str, found: Listing) -> Listing:
        """Leaves out folders that are runs, or hold nothing else than runs as `runs` and `runs/base` do."""
        ours = [folder for folder in found.folders if self._is_output(folder)]
        if not ours:
            return found
        below = tuple(f"{folder}/" for folder in ours)
        self.left_out = [(name, reason) for name, reason in self.left_out if not name.startswith(below)]
        self.left_out += [(name, "a run of gfnet, no data") for name in below]
        kept = found._replace(folders=[folder for folder in found.folders if folder not in ours])
        if not any(kept):
            self._runs.add(path)
        return kept

    def _is_output(self, path: str) -> bool:
        try:
            return not self.listing(path).pictures and path in self._runs
        except UserError:
            return False  # it is said where the folder is needed

    def _list(self, path: str) -> Listing:
        found = Listing([], [], [])
        prefix = path and path + "/"
        with os.scandir(os.path.join(self.root, path)) as entries:
            for entry in entries:
                name = entry.name
                if _OF_A_RUN.fullmatch(name):
                    self._runs.add(path)
                if name.startswith(".") or name in _CLUTTER:
                    continue
                if not name.isascii():
                    _check_utf8(self.root, prefix + name)
                suffix = name[name.rfind(".") :].lower() if "." in name else ""
                if entry.is_file(follow_symlinks=False):
                    if suffix in SUFFIXES:
                        found.pictures.append(prefix + name)
                    else:
                        self.others[suffix] += 1
                elif entry.is_dir(follow_symlinks=False):
                    found.folders.append(prefix + name)
                elif os.path.isdir(entry.path):  # not entry.is_dir(): it raises for a link that leads to itself
                    found.links.append(prefix + name)
                elif suffix not in SUFFIXES:
                    self.others[suffix] += 1
                elif os.path.isfile(entry.path) or not os.path.exists(entry.path):  # to nothing: a broken picture
                    found.pictures.append(prefix + name)
                    self._picture_links.add(prefix + name)
                else:
                    self.left_out.append((prefix + name, "no file: a pipe, socket or device"))
        for names in found:
            names.sort()
        return found

    def folders(self, path: str) -> list[str]:
        """The folders in one that holds split or class folders: among them links to folders elsewhere."""
        found = self.listing(path)
        return sorted([*found.folders, *(link for link in found.links if self._follows(link))])

    def _follows(self, link: str) -> bool:
        target = os.path.realpath(os.path.join(self.root, link))
        for known in self._followed:
            if _within(target, known) or _within(known, target):
                self.left_out.append((link, "a link to a folder of the same tree"))
                return False
        self._followed.append(target)
        return True

    def pictures(self, path: str) -> list[str]:
        """Every picture below a folder; links to folders are not followed: they could lead back up."""
        found = self.listing(path)
        self.left_out += [(link, "a link to a folder, inside a class") for link in found.links]
        return found.pictures + [picture for folder in found.folders for picture in self.pictures(folder)]

    def without_repeats(self, pictures: list[Picture]) -> list[Picture]:
        """Leaves out links to files that are listed under another name, so that no file is in two splits."""
        if not self._picture_links:
            return pictures

        @cache
        def real_folder(name: str) -> str:
            return os.path.realpath(os.path.join(self.root, name))

        def real(path: str) -> str:
            where, base = os.path.split(path)
            return os.path.join(real_folder(where), base)

        seen = {real(picture.path) for picture in pictures if picture.path not in self._picture_links}
        kept = []
        for picture in pictures:
            if picture.path in self._picture_links:
                target = os.path.realpath(real(picture.path))
                if target in seen:
                    self.left_out.append((picture.path, "a link to a picture that is listed already"))
                    continue
                seen.add(target)
            kept.append(picture)
        return kept


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _check_utf8(root: str, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:  # it could be neither printed nor written into a run's splits.csv
        shown = os.path.join(root, path).encode(errors="backslashreplace").decode()
        raise UserError(f"{shown}: the name is not UTF-8; rename it") from None
