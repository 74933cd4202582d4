"""Which files are in a folder and below it: one pass of the system's listing, without asking about single files.

Hidden files and OS clutter are ignored. Other files that are no pictures are counted by suffix. A
folder that cannot be read is an error, because a set that is silently smaller is worse. No file is listed twice,
whatever links there are.
"""

import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gfnet_pl.data.manifest import Picture
from gfnet_pl.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm"})
_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "hand_signs.json"})  # the last is the embedded set's own


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

    def listing(self, path: str) -> Listing:
        if path not in self._listings:
            try:
                self._listings[path] = self._list(path)
            except OSError as error:
                name = error.filename or os.path.join(self.root, path)
                raise UserError(f"{name} cannot be read ({error.strerror}); make it readable or remove it") from None
        return self._listings[path]

    def _list(self, path: str) -> Listing:
        found = Listing([], [], [])
        prefix = path and path + "/"
        with os.scandir(os.path.join(self.root, path)) as entries:
            for entry in entries:
                name = entry.name
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
                elif entry.is_dir():
                    found.links.append(prefix + name)
                elif suffix not in SUFFIXES:
                    self.others[suffix] += 1
                elif entry.is_file():
                    found.pictures.append(prefix + name)
                    self._picture_links.add(prefix + name)
                elif entry.is_symlink():
                    raise UserError(f"{entry.path} is a link to nothing; mend or remove it")
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
