"""The charts of the report as SVG. Colours come from the page, so one drawing fits light, dark and printed pages."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from gfnet_pl.evaluation.calibration import Bin

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 34


class Interval(NamedTuple):
    """A row of `interval_chart`.

    Attributes:
        label: Name of the row, shown on the left.
        share: Length of the bar, 0 to 1; None if nothing was counted.
        ends: Both ends of the 95 % interval.
        wider: Both ends of a second interval, drawn lighter; default: none.
        note: Text at the right end.
    """

    label: str
    share: float | None
    ends: tuple[float, float]
    wider: tuple[float, float] | None = None
    note: str = ""


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    percent: bool = False,
    size: tuple[int, int] = (420, 240),
) -> str:
    """Lines over a common x axis. A series of one point is drawn as a dot.

    Args:
        series: (x, y) points by name. At least one series has a point.
        x: Title of the x axis.
        y: Title of the y axis.
        percent: Whether y is a share, shown in percent.
        size: Width and height in pixels.

    Returns:
        HTML.
    """
    width, height = size
    points = [point for line in series.values() for point in line]
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_low, y_high = min(p[1] for p in points), max(p[1] for p in points)
    if not percent and y_low > 0:
        y_low = 0.0
    x_high, y_high = (high if high > low else low + 1 for low, high in ((x_low, x_high), (y_low, y_high)))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = _LEFT + (point[0] - x_low) / (x_high - x_low) * (width - _LEFT - _RIGHT)
        up = height - _BOTTOM - (point[1] - y_low) / (y_high - y_low) * (height - _TOP - _BOTTOM)
        return round(across, 1), round(up, 1)

    parts = []
    for value in _ticks(y_low, y_high):
        _, up = place((x_low, value))
        label = f"{100 * value:g}%" if percent else f"{value:g}"
        parts.append(f'<path class="grid" d="M{_LEFT} {up}H{width - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{up + 4}" text-anchor="end">{label}</text>')
    for value in _ticks(x_low, x_high):
        across, _ = place((value, y_low))
        parts.append(f'<text x="{across}" y="{height - _BOTTOM + 15}" text-anchor="middle">{value:g}</text>')
    for number, (name, line) in enumerate(series.items()):
        placed = [place(point) for point in line]
        if len(placed) > 1:
            path = "M" + "L".join(f"{across} {up}" for across, up in placed)
            parts.append(f'<path class="line s{number % 6}" d="{path}"><title>{escape(name)}</title></path>')
        elif placed:
            parts.append(f'<circle class="dot s{number % 6}" cx="{placed[0][0]}" cy="{placed[0][1]}" r="3.5"/>')
    parts.append(f'<text x="{(width + _LEFT) / 2}" y="{height - 4}" text-anchor="middle">{escape(x)}</text>')
    svg = _svg(width, height, f"{y} over {x}", parts)
    keys = "".join(f'<span class="key s{i % 6}">{escape(name)}</span>' for i, name in enumerate(series))
    return f'<figure class="chart"><figcaption><b>{escape(y)}</b> {keys}</figcaption>{svg}</figure>'


def interval_chart(rows: Sequence[Interval], *, title: str, labels: int = 70) -> str:
    """One bar per row, with its interval as a whisker, on one scale from 0 to 1.

    Args:
        rows: At least one row.
        title: Description for screen readers.
        labels: Width of the labels in pixels.

    Returns:
        HTML.
    """
    width, row_height, notes = 480, 20, 105
    height = len(rows) * row_height + 24
    across = width - labels - notes

    def place(share: float) -> float:
        return round(labels + share * across, 1)

    parts = []
    for value in _ticks(0.0, 1.0):
        parts.append(f'<path class="grid" d="M{place(value)} 0V{height - 20}"/>')
        parts.append(f'<text x="{place(value)}" y="{height - 6}" text-anchor="middle">{100 * value:g}%</text>')
    for number, row in enumerate(rows):
        top = number * row_height
        middle = top + row_height / 2
        parts.append(f'<text x="{labels - 6}" y="{middle + 4}" text-anchor="end">{escape(row.label)}</text>')
        if row.share is None:
            parts.append(f'<text x="{labels + 4}" y="{middle + 4}" class="quiet">no pictures</text>')
            continue
        bar = place(row.share) - labels
        parts.append(
            f'<rect class="bar" x="{labels}" y="{top + 3}" width="{round(bar, 1)}" height="{row_height - 6}"/>'
        )
        if row.wider:
            one, other = (place(end) for end in row.wider)
            parts.append(f'<path class="wider" d="M{one} {middle}H{other}"/>')
        one, other = (place(end) for end in row.ends)
        parts.append(f'<path class="whisker" d="M{one} {middle}H{other}M{one} {middle - 4}v8M{other} {middle - 4}v8"/>')
        parts.append(f'<text x="{width - notes + 8}" y="{middle + 4}">{escape(row.note)}</text>')
    return f'<figure class="chart wide">{_svg(width, height, title, parts)}</figure>'


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Accuracy over probability, one dot per bin. The more pictures, the larger the dot. On the diagonal both agree."""
    side, margin = 240, 34
    images = max(1, max(each.images for each in bins))
    span = side - margin - 10

    def place(confidence: float, accuracy: float) -> tuple[float, float]:
        return round(margin + confidence * span, 1), round(10 + (1 - accuracy) * span, 1)

    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    parts = [f'<path class="grid" d="M{x0} {y1}V{y0}H{x1}M{x0} {y0}L{x1} {y1}"/>']
    for value in (0.0, 0.5, 1.0):
        across, up = place(value, value)
        parts.append(f'<text x="{across}" y="{y0 + 14}" text-anchor="middle">{100 * value:g}%</text>')
        parts.append(f'<text x="{x0 - 4}" y="{up + 4}" text-anchor="end">{100 * value:g}%</text>')
    for each in bins:
        if each.images:
            across, up = place(each.confidence, each.accuracy)
            radius = round(2 + 8 * (each.images / images) ** 0.5, 1)
            words = f"{each.images:,} pictures: probability {each.confidence:.1%}, right {each.accuracy:.1%}"
            parts.append(f'<circle class="dot s0" cx="{across}" cy="{up}" r="{radius}"><title>{words}</title></circle>')
    return _svg(side, side, "accuracy over probability", parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers in [low, high]."""
    raw = (high - low) / 4
    power = 10.0 ** (len(f"{raw:.0f}") - 1 if raw >= 1 else -len(f"{1 / raw:.0f}"))
    step = next(step * power for step in (1, 2, 2.5, 5, 10, 20, 25, 50) if step * power >= raw * 0.8)
    first = -(-low // step)
    return [round((first + index) * step, 10) for index in range(7) if (first + index) * step <= high + step * 1e-6]
