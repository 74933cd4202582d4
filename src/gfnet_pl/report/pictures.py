"""Pictures inside a page: one sheet with the thumbnails of all pictures to click on, and arrays as coloured images."""

import base64
import io

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL = 48  # pixels, side of a thumbnail on the sheet
COLUMNS = 40


def sheet(images: npt.NDArray[np.uint8]) -> str:
    """A data URI of N pictures, row by row, `COLUMNS` per row, each with sides of `THUMBNAIL` pixels.

    They are grey, (N, H, W), or coloured, (N, H, W, 3).
    """
    rows = -(-len(images) // COLUMNS)
    page = Image.new("L" if images.ndim == 3 else "RGB", (COLUMNS * THUMBNAIL, max(1, rows) * THUMBNAIL))
    for number, pixels in enumerate(images):
        small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        page.paste(small, (number % COLUMNS * THUMBNAIL, number // COLUMNS * THUMBNAIL))
    return _uri(page, quality=70)


def picture(pixels: npt.NDArray[np.uint8]) -> str:
    """A data URI of one (H, W) grey or (H, W, 3) coloured picture."""
    return _uri(Image.fromarray(pixels), quality=80)


def heat(values: npt.NDArray[np.floating], *, signed: bool = False, top: float | None = None) -> str:
    """A data URI of an (H, W) array, one pixel per value.

    Args:
        values: The array.
        signed: Whether the colours go from minus the top value to the top value, instead of from 0 to it.
        top: The top value; default: the largest absolute value of the array.
    """
    top = top or (float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0)
    scaled = np.nan_to_num(values) / (top or 1.0)
    colours = matplotlib.colormaps["coolwarm" if signed else "viridis"](
        scaled / 2 + 0.5 if signed else scaled, bytes=True
    )
    return _png(Image.fromarray(colours[..., :3]))


def overlay(pixels: npt.NDArray[np.uint8], saliency: npt.NDArray[np.floating]) -> str:
    """A data URI of a picture: red where it raises the logit of a class, blue where it lowers the logit.

    The picture, (H, W) or (H, W, 3), is shown in grey: its own red and blue would be taken for the net's.
    `saliency` may have a lower resolution, for example one number per token.
    """
    top = float(np.abs(saliency).max()) or 1.0
    fine = Image.fromarray((saliency / top).astype(np.float32)).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    weight = np.clip(np.asarray(fine), -1, 1)[..., None]
    grey = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None].astype(float), 3, axis=2)
    red, blue = np.array([230, 40, 30]), np.array([40, 90, 240])
    mixed = grey + 0.7 * np.abs(weight) * (np.where(weight > 0, red, blue) - grey)
    return _uri(Image.fromarray(mixed.astype(np.uint8)), quality=80)


def _uri(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
