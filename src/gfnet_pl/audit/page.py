"""The worst pairs of an audit as one HTML file: it holds its pictures itself, needs no script and no network."""

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfnet_pl.audit.findings import Audit, Duplicates, Pair
from gfnet_pl.files import replacing

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: .8rem; padding: 0; }
.pairs li { list-style: none; border: 1px solid #8886; border-radius: .5rem; padding: .7rem; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .7rem; }
figure { margin: 0; min-width: 0; }
img { width: 100%; max-width: 10rem; border-radius: .25rem; display: block; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; margin-top: .3rem; }
.score { font-size: .85rem; margin: 0 0 .5rem; opacity: .8; }
"""


def write_page(file: Path, report: Audit, picture: Callable[[str], npt.NDArray[np.uint8]]) -> None:
    """Writes the page.

    Args:
        file: Where to; an older file is replaced.
        report: What was found.
        picture: A picture's (H, W) grey levels by its path.
    """
    facts = "".join(f"<tr><th>{escape(what)}</th><td>{escape(finding)}</td></tr>" for what, finding in report.facts())
    sections = (
        (
            "Contradictory labels",
            "The same picture, or nearly, under two classes: a wrong label, or classes that look alike.",
            report.across_classes,
        ),
        ("Across splits", "The same picture, or nearly, in two splits.", report.across_splits),
        ("Within a split", "The same picture, or nearly, twice in one split.", report.within_split),
    )
    body = "".join(_section(title, words, found, picture) for title, words, found in sections)
    title = f"Audit of {escape(report.folder)}"
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<table>{facts}</table>\n{body}</body></html>\n"
    )
    with replacing(file) as stream:
        stream.write(page)


def _section(title: str, words: str, found: Duplicates, picture: Callable[[str], npt.NDArray[np.uint8]]) -> str:
    count = found.exact + found.near
    if not count:
        return f"<h2>{title}</h2><p>{words} None found.</p>\n"
    shown = f"{count:,} pictures; the worst {len(found.pairs)} pairs:"
    pairs = "\n".join(_pair(pair, picture) for pair in found.pairs)
    return f'<h2>{title}</h2><p>{words} {shown}</p>\n<ul class="pairs">{pairs}</ul>\n'


def _pair(pair: Pair, picture: Callable[[str], npt.NDArray[np.uint8]]) -> str:
    figures = "".join(
        f'<figure><img src="{_data_uri(picture(path))}" alt=""><figcaption><b>{escape(label)}</b> · {escape(split)}<br>'
        f"{escape(path)}</figcaption></figure>"
        for path, label, split in zip(pair.paths, pair.labels, pair.splits, strict=True)
    )
    score = "equal pixels" if pair.correlation == 1 else f"correlation {pair.correlation:.4f}"
    return f'<li><p class="score">{score}</p><div class="two">{figures}</div></li>'


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    png = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
