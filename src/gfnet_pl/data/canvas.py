"""What every picture is made into: its size, grey or colour, and how a picture of another shape is fitted to it.

A letterbox is filled with the mean colour of the two edges that it continues. The borders of black bars would often be
the strongest lines of a picture, they are in many of its frequencies, and they tell its shape louder than its content:
docs/data.md has the figures.
"""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Fit = Literal["stretch", "letterbox", "crop"]


class Canvas(NamedTuple):
    """What every picture is made into.

    Attributes:
        height: In pixels.
        width: In pixels.
        colour: Whether pictures keep their colours; else they are grey.
        fit: "stretch" changes the shape of a picture to the canvas's, "letterbox" shows all of it in its own shape with
            bars beside it, "crop" shows its middle in its own shape and cuts off what lies outside.
    """

    height: int
    width: int
    colour: bool = False
    fit: Fit = "stretch"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a picture's pixels: (height, width) in grey, (height, width, 3) in colour."""
        return (self.height, self.width, 3) if self.colour else (self.height, self.width)

    @property
    def channels(self) -> int:
        """1 in grey, 3 in colour."""
        return 3 if self.colour else 1

    @property
    def bytes(self) -> int:
        """Of a picture's pixels."""
        return self.height * self.width * self.channels

    @property
    def name(self) -> str:
        """For a file's name: 96x96, or 96x96-colour-letterbox."""
        words = [f"{self.height}x{self.width}"]
        words += ["colour"] if self.colour else []
        words += [self.fit] if self.fit != "stretch" else []
        return "-".join(words)


def scaled(picture: Image.Image, canvas: Canvas, *, sideways: bool) -> Image.Image:
    """The picture at the size that it has on the canvas; a letterbox has no bars yet.

    Args:
        picture: As it is in its file.
        canvas: What it is made into.
        sideways: Whether it will be turned by 90 degrees afterwards.
    """
    across = (canvas.height, canvas.width) if sideways else (canvas.width, canvas.height)
    size, box = across, None
    if canvas.fit == "letterbox":
        factor = min(length / side for length, side in zip(across, picture.size, strict=True))
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    elif canvas.fit == "crop":
        factor = max(length / side for length, side in zip(across, picture.size, strict=True))
        width, height = (min(side, length / factor) for length, side in zip(across, picture.size, strict=True))
        left, top = (picture.width - width) / 2, (picture.height - height) / 2
        box = (left, top, left + width, top + height)
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=3.0)


def padded(picture: Image.Image, canvas: Canvas) -> Image.Image:
    """The upright picture in the middle of the canvas, between bars if it is smaller."""
    if picture.size == (canvas.width, canvas.height):
        return picture
    pixels = np.asarray(picture)
    edges = pixels[:, [0, -1]] if picture.width < canvas.width else pixels[[0, -1]]
    ground = edges.mean((0, 1)).round().astype(int)
    page = Image.new(picture.mode, (canvas.width, canvas.height), tuple(ground) if canvas.colour else int(ground))
    page.paste(picture, ((canvas.width - picture.width) // 2, (canvas.height - picture.height) // 2))
    return page
