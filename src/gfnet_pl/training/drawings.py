"""The dashboard's pictures as pixels: (H, W, 3) uint8, dark on white.

They are made during training, so they are drawn with Pillow: a Matplotlib figure takes a hundred times as long.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_GAP = 8  # pixels between things side by side
_LINE = 14  # pixels, height of a line of text
_READABLE = 12  # pixels: names are shown only in rows of at least this height
_LONGEST = 14  # characters of a name, at most
_BAR = 600  # pixels, length of the longest bar
_EPOCHS = 200  # columns of a history, at most
_LEGEND = 30  # pixels around the words of a legend
_WHITE, _INK, _FAINT = (255, 255, 255), (32, 32, 32), (225, 225, 225)
_RIGHT, _WRONG = np.array([33, 102, 172]), np.array([178, 24, 43])  # blue and red: colour-blind people see both
_BARS = ("#2166ac", "#f4a582", "#92c5de", "#b2182b", "#808080", "#e0b040", "#5aae61", "#c8c8c8")  # one per split


def short(name: str) -> str:
    """A class name that fits: unchanged if it is short, otherwise its beginning and its end with "…" between them."""
    half, name = _LONGEST // 2, _line(name)
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[1 - half :]}"


def sentence(text: str) -> Pixels:
    """A picture of a sentence, for a page that has nothing else to draw."""
    image, draw = _page(_length(text) + 2 * _GAP, _LINE + 2 * _GAP)
    draw.text((_GAP, _GAP), text, _INK, _font())
    return np.asarray(image)


def grid(images: Pixels, titles: Sequence[str], *, columns: int, side: int, smooth: bool = True) -> Pixels:
    """Pictures side by side, each below its title.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) coloured, uint8, N at least 1.
        titles: N titles. They are wrapped at spaces to the width of the picture.
        columns: Pictures per row.
        side: Length in pixels to which the longer side of each picture is scaled.
        smooth: Whether to interpolate between pixels; False shows each pixel as a square.
    """
    height, width = (round(length * side / max(images.shape[1:3])) for length in images.shape[1:3])
    wrapped = [_wrap(title, width) for title in titles]
    text = _LINE * max(map(len, wrapped))
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    page, draw = _page(columns * (width + _GAP) + _GAP, rows * (height + text + _GAP) + _GAP)
    resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    for place, (pixels, lines) in enumerate(zip(images, wrapped, strict=True)):
        left, top = _GAP + place % columns * (width + _GAP), _GAP + place // columns * (height + text + _GAP)
        for number, line in enumerate(lines):
            draw.text((left, top + number * _LINE), line, _INK, _font())
        picture = Image.fromarray(pixels).convert("RGB")
        page.paste(picture.resize((width, height), resampling), (left, top + text))
    return np.asarray(page)


def filters(magnitude: npt.NDArray[np.float64]) -> Pixels:
    """What the global filter of each block amplifies: the brighter, the more.

    Each block has its own scale. The title of the block states it. What is exactly 0 is grey and outside of the scale:
    a further stage has none of the finer frequencies.

    Args:
        magnitude: (depth, H, W), centred, from `gfnet_pl.evaluation.filters.magnitude`.
    """
    there, high = magnitude > 0, magnitude.max((1, 2))
    low = np.where(there, magnitude, high[:, None, None]).min((1, 2))
    span = np.where(high > low, high - low, 1)[:, None, None]
    colours = matplotlib.colormaps["viridis"]((magnitude - low[:, None, None]) / span, bytes=True)[..., :3]
    colours[~there] = _FAINT
    titles = [
        f"block {number}: {least:.2f} to {most:.2f}"
        for number, (least, most) in enumerate(zip(low, high, strict=True), start=1)
    ]
    return grid(colours, titles, columns=6, side=144, smooth=False)


def confusion_matrix(confusion: Ints, classes: Sequence[str]) -> Pixels:
    """The confusion matrix: a row is a true class, a column is a predicted class.

    Blue cells are right, red cells are wrong. A cell is coloured by its share of the row. For red cells it is the
    square root of that share, so that a few errors can be seen too. A row without pictures is grey.

    Args:
        confusion: (classes, classes) counts; rows are true classes.
        classes: Names. They are not shown where rows are too low for text.
    """
    images, right = int(confusion.sum()), int(confusion.trace())
    cell = max(3, min(28, 900 // len(classes)))
    named = cell >= _READABLE
    names = [short(name) for name in classes]
    margin = _margin(names) if named else 0
    title = f"{right / max(1, images):.1%} of {images:,} right. Row: the class, column: taken for"
    side = cell * len(classes)
    left, top = _GAP + margin, _LINE + 2 * _GAP + margin
    page, draw = _page(max(left + side, _GAP + _length(title)) + _GAP, top + side + _GAP)
    draw.text((_GAP, _GAP), title, _INK, _font())

    of_row = confusion.sum(1, keepdims=True)
    shares = confusion / np.maximum(of_row, 1)
    diagonal = np.eye(len(classes), dtype=bool)
    strength = np.where(diagonal, shares, np.sqrt(shares))[..., None]
    colours = 255 + strength * (np.where(diagonal[..., None], _RIGHT, _WRONG) - 255)
    colours[of_row[:, 0] == 0] = _FAINT
    matrix = Image.fromarray(colours.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    page.paste(matrix, (left, top))
    if named:
        for place in range(len(classes) + 1):
            at = place * cell
            draw.line((left, top + at, left + side, top + at), _FAINT)
            draw.line((left + at, top, left + at, top + side), _FAINT)
        for place, name in enumerate(names):
            middle = place * cell + cell // 2
            draw.text((left - 4, top + middle), name, _INK, _font(), anchor="rm")
            upright = Image.new("RGB", (margin, _LINE), _WHITE)
            ImageDraw.Draw(upright).text((0, _LINE // 2), name, _INK, _font(), anchor="lm")
            page.paste(upright.rotate(90, expand=True), (left + middle - _LINE // 2, top - 4 - margin))
        for row, column in zip(*confusion.nonzero(), strict=True):
            count = str(confusion[row, column])
            if _length(count) < cell:
                colour = _WHITE if strength[row, column, 0] > 0.5 else _INK
                centre = (left + column * cell + cell // 2, top + row * cell + cell // 2)
                draw.text(centre, count, colour, _font(), anchor="mm")
    return np.asarray(page)


def history(shares: Floats, epochs: Sequence[int], classes: Sequence[str]) -> Pixels:
    """The accuracy of each class over the epochs: a row is a class, a column is an epoch.

    The darker, the more of the class's pictures are right. A cell without pictures is grey. Cells have numbers, in
    percent; where there are too many cells, each row ends with the number of the last epoch.

    Args:
        shares: (classes, epochs) from 0 to 1; NaN where the class has no pictures.
        epochs: Numbers of the epochs. Of more than 200, evenly spaced ones are shown.
        classes: Names. They are not shown where rows are too low for text.
    """
    if len(epochs) > _EPOCHS:
        kept = np.linspace(0, len(epochs) - 1, _EPOCHS).round().astype(np.int64)
        shares, epochs = shares[:, kept], [epochs[place] for place in kept]
    wide, high = max(3, min(28, 700 // len(epochs))), max(3, min(16, 2000 // len(classes)))
    named, counted = high >= _READABLE, wide >= _length("100") + 2
    names = [short(name) for name in classes]
    told = [[f"{100 * share:.0f}" if np.isfinite(share) else "" for share in row] for row in shares.tolist()]
    title = "Right of each class in validation, %. Row: the class, column: the epoch"
    left, top = _GAP + (_margin(names) if named else 0), 2 * _LINE + 2 * _GAP
    right, bottom = left + wide * len(epochs), top + high * len(classes)
    page, draw = _page(max(right + _margin(["100"]), _GAP + _length(title)) + _GAP, bottom + _GAP)
    draw.text((_GAP, _GAP), title, _INK, _font())

    strength = np.nan_to_num(shares)[..., None]
    colours = 255 + strength * (_RIGHT - 255)
    colours[np.isnan(shares)] = _FAINT
    cells = Image.fromarray(colours.astype(np.uint8))
    page.paste(cells.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    room = _length(str(epochs[-1])) + _GAP
    for column in range(0, len(epochs), -(-room // wide)):
        centre = left + column * wide + wide // 2
        draw.text((centre, top - 4), str(epochs[column]), _INK, _font(), anchor="ms")
    if named:
        for row, name in enumerate(names):
            middle = top + row * high + high // 2
            draw.line((left, top + row * high, right, top + row * high), _WHITE)
            draw.text((left - 4, middle), name, _INK, _font(), anchor="rm")
            if not counted:
                draw.text((right + 4, middle), told[row][-1], _INK, _font(), anchor="lm")
                continue
            for column, number in enumerate(told[row]):
                colour = _WHITE if strength[row, column, 0] > 0.5 else _INK
                draw.text((left + column * wide + wide // 2, middle), number, colour, _font(), anchor="mm")
    return np.asarray(page)


def bars(counts: dict[str, Ints], classes: Sequence[str]) -> Pixels:
    """How many pictures each class has in each split: one bar per class, in which the splits follow each other.

    Args:
        counts: (classes,) counts by split.
        classes: Names. They are not shown where bars are too thin for text.
    """
    thick = max(3, min(16, 2000 // len(classes)))
    named = thick >= _READABLE
    names = [short(name) for name in classes]
    table = np.stack(list(counts.values()), axis=1)  # (classes, splits)
    told = [" + ".join(f"{count:,}" for count in row if count) for row in table.tolist()]
    legends = [f"{split} {of_split.sum():,}" for split, of_split in counts.items()]
    left, top = _GAP + (_margin(names) if named else 0), _LINE + 2 * _GAP
    width = max(_BAR + _margin(told) if named else _BAR, sum(_length(legend) + _LEGEND for legend in legends))
    page, draw = _page(left + width + _GAP, top + thick * len(classes) + _GAP)
    at = left
    for colour, legend in zip(_BARS, legends, strict=False):
        draw.rectangle((at, _GAP + 2, at + 10, _GAP + 12), colour)
        draw.text((at + 14, _GAP), legend, _INK, _font())
        at += _length(legend) + _LEGEND
    ends = left + np.rint(table.cumsum(1) * _BAR / max(1, table.sum(1).max())).astype(np.int64)
    for place, name in enumerate(names):
        upper, middle, start = top + place * thick, top + place * thick + thick // 2, left
        for colour, end in zip(_BARS, ends[place].tolist(), strict=False):
            if end > start:
                draw.rectangle((start, upper, end - 1, upper + thick - 2), colour)
            start = end
        if named:
            draw.text((left - 4, middle), name, _INK, _font(), anchor="rm")
            draw.text((start + 4, middle), told[place], _INK, _font(), anchor="lm")
    return np.asarray(page)


def _page(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    page = Image.new("RGB", (width, height), _WHITE)
    return page, ImageDraw.Draw(page)


def _wrap(text: str, width: int) -> list[str]:
    """Cuts a text at spaces into lines of at most `width` pixels; a single word may be wider."""
    first, *rest = _line(text).split(" ")
    lines = [first]
    for word in rest:
        if _length(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _line(text: str) -> str:
    """A text without line breaks and other characters that have no shape: on some of them Pillow's layout fails."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _length(text: str) -> int:
    return math.ceil(_font().getlength(text))


def _margin(names: Sequence[str]) -> int:
    return max(map(_length, names)) + 4


@cache
def _font() -> ImageFont.FreeTypeFont:
    # Pillow's own font has only Latin letters, and class names may be Greek, Cyrillic or Arabic.
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 11)
