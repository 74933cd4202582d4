"""The charts of the report, as HTML and stretched SVG.

A chart takes the width that the page gives it: its curves are stretched, while its texts and dots are HTML elements
that are placed in percent and keep their size. So one drawing fits a desk, a phone and paper. Colours come from the
page's style.
"""

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import NamedTuple

from gfnet_pl.evaluation.calibration import Bin

_HEIGHT = 200  # pixels, of the area of a line chart
_LINE = 16  # pixels, of a line of text
_SCALE = (0, 25, 50, 75, 100)
_TICKS = 4  # about so many intervals between the numbers of an axis


class Interval(NamedTuple):
    """A row of `interval_chart`.

    Attributes:
        label: Name of the row, shown on the left.
        share: Where the dot is, 0 to 1; None if nothing was counted.
        ends: Both ends of the 95 % interval.
        note: Text at the right end.
        words: Text in small type below the label; default: none.
        remark: Text in small type below the note; default: none.
        members: Shares of the members of the row, say of its people, drawn as small dots.
    """

    label: str
    share: float | None
    ends: tuple[float, float]
    note: str = ""
    words: str = ""
    remark: str = ""
    members: Sequence[float] = ()


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    percent: bool = False,
    ordered: bool = False,
    quiet: Collection[str] = (),
) -> str:
    """Lines over a common x axis, each with its name at its end. A series of one point is drawn as a dot.

    Args:
        series: (x, y) points by name. At least one series has a point.
        x: What the x axis shows.
        y: What the y axis shows.
        percent: Whether y is a share, shown in percent.
        ordered: Whether the series have an order, such as blocks: their colours then go from light to dark.
        quiet: Names of series that are drawn in grey.

    Returns:
        HTML.
    """
    points = [point for line in series.values() for point in line]
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_low, y_high = min(p[1] for p in points), max(p[1] for p in points)
    if y_low > 0 and (not percent or y_low < 0.5 * y_high):
        y_low = 0.0
    x_high, y_high = (high if high > low else low + 1 for low, high in ((x_low, x_high), (y_low, y_high)))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return (
            round(100 * (point[0] - x_low) / (x_high - x_low), 2),
            round(100 * (point[1] - y_low) / (y_high - y_low), 2),
        )

    lines, texts = [], []
    for value in _ticks(y_low, y_high):
        _, up = place((x_low, value))
        lines.append(f'<path class="grid" d="M0 {100 - up}H100"/>')
        label = f"{100 * value:g} %" if percent else f"{value:g}"
        texts.append(f'<span class="y" style="bottom:{up}%">{label}</span>')
    for value in _ticks(x_low, x_high, least=1.0):
        across, _ = place((value, y_low))
        texts.append(f'<span class="x" style="left:{across}%">{value:g}</span>')
    kinds = _kinds(list(series), ordered, quiet)
    named = {name: place(line[-1])[1] for name, line in series.items() if line} if len(series) > 1 else {}
    for name, up in _apart(named):
        texts.append(f'<span class="name {kinds[name]}" style="bottom:{up}%">{escape(name)}</span>')
    for name, line in series.items():
        kind = kinds[name]
        placed = [place(point) for point in line]
        if len(placed) > 1:
            path = "M" + "L".join(f"{across} {round(100 - up, 2)}" for across, up in placed)
            lines.append(f'<path class="line {kind}" d="{path}"/>')
        elif placed:
            texts.append(f'<i class="dot {kind}" style="left:{placed[0][0]}%;bottom:{placed[0][1]}%"></i>')
    title = f"{y} by {x}"
    svg = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
    room = max((len(name) for name in named), default=0)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<div class="plot" style="--names:{room}"><div class="area" style="height:{_HEIGHT}px">'
        f"{svg}{''.join(lines)}</svg>{''.join(texts)}</div></div></figure>"
    )


def _kinds(names: Sequence[str], ordered: bool, quiet: Collection[str]) -> dict[str, str]:
    """The class of style of each series: s0 to s5 in turn, o0 to o5 from light to dark, or q."""
    loud = [name for name in names if name not in quiet]
    last = max(1, len(loud) - 1)
    kinds = {name: f"o{round(5 * place / last)}" if ordered else f"s{place % 6}" for place, name in enumerate(loud)}
    return kinds | dict.fromkeys(quiet, "q")


def _apart(heights: Mapping[str, float]) -> list[tuple[str, float]]:
    """Moves names at the ends of lines up or down, so that none covers another.

    Args:
        heights: Height of each line's end in percent.

    Returns:
        (name, height), in the order of `heights`.
    """
    step = 100 * _LINE / _HEIGHT
    order = sorted(heights, key=lambda name: heights[name])
    placed: list[float] = []
    for name in order:
        placed.append(max(heights[name], placed[-1] + step if placed else 0.0))
    ceiling = max(100.0, step * (len(placed) - 1))
    for number in range(len(placed) - 1, -1, -1):
        placed[number] = min(placed[number], ceiling)
        ceiling = placed[number] - step
    found = dict(zip(order, placed, strict=True))
    return [(name, round(found[name], 2)) for name in heights]


def interval_chart(rows: Sequence[Interval], *, mean: float | None = None) -> str:
    """One row per interval, on one scale from 0 to 100 %: a dot with its interval as a band.

    Args:
        rows: At least one row.
        mean: Where to draw a line through all rows, 0 to 1; default: none.

    Returns:
        HTML.
    """
    drawn = "".join(
        f'<div class="interval"><span class="label"><b>{escape(row.label)}</b>{_small(row.words)}</span>'
        f"{track(row.share, row.ends, row.members, mean)}"
        f'<span class="note">{escape(row.note)}{_small(row.remark)}</span></div>'
        for row in rows
    )
    axis = "".join(f'<span style="left:{value}%">{value}{" %" if value == 100 else ""}</span>' for value in _SCALE)
    return (
        f'<div class="intervals">{drawn}<div class="interval"><span></span><span class="axis" aria-hidden="true">{axis}'
        "</span><span></span></div></div>"
    )


def _small(text: str) -> str:
    return f" <small>{escape(text)}</small>" if text else ""


def track(
    share: float | None, ends: tuple[float, float], members: Sequence[float] = (), mean: float | None = None
) -> str:
    """A scale from 0 to 100 % with a dot, its interval as a band, and small dots for members; empty for None."""
    if share is None:
        return '<span class="track none"></span>'
    low, high = (round(100 * end, 1) for end in ends)
    parts = [f'<i class="band" style="left:{low}%;width:{round(high - low, 1)}%"></i>']
    if mean is not None:
        parts.append(f'<i class="mean" style="left:{100 * mean:.1f}%"></i>')
    parts += [f'<i class="member" style="left:{100 * each:.1f}%"></i>' for each in members]
    parts.append(f'<i class="dot" style="left:{100 * share:.1f}%"></i>')
    return f'<span class="track">{"".join(parts)}</span>'


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Accuracy over probability, one dot per bin. The more pictures, the larger the dot. On the diagonal both agree."""
    images = max(1, max(each.images for each in bins))
    texts = []
    for value in _SCALE[::2]:
        unit = " %" if value == 100 else ""
        texts.append(f'<span class="x" style="left:{value}%">{value}{unit}</span>')
        texts.append(f'<span class="y" style="bottom:{value}%">{value}{unit}</span>')
    for each in bins:
        if each.images:
            side = round(6 + 16 * (each.images / images) ** 0.5)
            words = f"{each.images:,} pictures: probability {each.confidence:.1%}, right {each.accuracy:.1%}"
            place = f"left:{100 * each.confidence:.1f}%;bottom:{100 * each.accuracy:.1f}%"
            texts.append(f'<i class="dot s0" style="{place};width:{side}px;height:{side}px" title="{words}"></i>')
    svg = '<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="accuracy by probability">'
    return (
        '<figure class="chart square"><figcaption>accuracy by the probability that the net gave</figcaption>'
        f'<div class="plot"><div class="area">{svg}<path class="grid" d="M0 0V100H100M0 100L100 0"/></svg>'
        f"{''.join(texts)}</div></div></figure>"
    )


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Three to six round numbers in [low, high], or fewer if they would lie nearer to each other than `least`."""
    raw = max((high - low) / _TICKS, least)
    power = 10.0 ** (len(f"{raw:.0f}") - 1 if raw >= 1 else -len(f"{1 / raw:.0f}"))
    step = next(step * power for step in (1, 2, 2.5, 5, 10, 20, 25, 50) if step * power >= raw * 0.8)
    first = -(-low // step)
    return [round((first + index) * step, 10) for index in range(7) if (first + index) * step <= high + step * 1e-6]
