"""Draws one finger-spelled letter: a jointed hand of capsules, seen by one signer's camera.

Every image belongs to a *signer* (hand shape, background, light, camera; some are left-handed) and is a frame of the
smooth clip of (signer, class), so neighbouring frames are near duplicates, as in data sets cut from videos. A capsule
is a bone's ends and a radius; a ray straight down z meets it in closed form, only inside the capsule's bounding box.

The frame and its units are those of `hand_poses`. The same arguments give the same picture on every machine, within one
grey level: the random streams are those that NumPy has frozen, parameters are float64 scalars, pixels are float32 and
see only additions, products and square roots, and no BLAS is involved.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gfnet_pl.hand_signs.poses import BONES, CLASSES, KNUCKLES, PALM, POSES, RADII, Capsule, Pose, Vector

Floats = npt.NDArray[np.float32]

OVERSAMPLE = 2  # rays per pixel along an axis
CELLS = 32  # the soft shadow is computed on this many cells along an axis
FAR = -1e9


@dataclass(frozen=True, slots=True)
class Signer:
    """What stays the same over all of one signer's images."""

    scale: float
    thick: float
    bones: list[list[float]]
    left_handed: bool
    zoom: float
    offset: tuple[float, float]
    light: Vector
    tone: float
    gain: float
    noise: float
    turn: Vector
    background: Floats


def render(label: str, *, signer: int, frame: int, seed: int = 0, size: int = 96) -> npt.NDArray[np.uint8]:
    """Draws one picture; a pure function of its arguments.

    Args:
        label: One of `CLASSES`; "Nothing" is the background alone.
        signer: Whose hand, background, light and camera, 0 or more.
        frame: Time within the clip of (signer, label), 0 or more; neighbours are near duplicates but for the grain.
        seed: Another seed is another population of signers, 0 or more.
        size: Height and width in pixels, a multiple of 16.

    Returns:
        A uint8 array of shape (size, size), 0 black to 255 white.

    Raises:
        ValueError: For an unknown label, a negative number, or a size that is no positive multiple of 16.
    """
    if label not in CLASSES:
        raise ValueError(f"label {label!r} is not one of {', '.join(CLASSES)}")
    if min(signer, frame, seed) < 0:
        raise ValueError(f"signer, frame and seed must be 0 or more, not {signer}, {frame} and {seed}")
    if size < 16 or size % 16:
        raise ValueError(f"size must be a positive multiple of 16, not {size}")
    who, index = _signer(seed, signer, size), CLASSES.index(label)
    drift = _drift(_stream(seed, 1, signer, index), frame)
    s = size * OVERSAMPLE
    margin = who.background.shape[0] - s
    left, top = (max(0, min(margin, int((0.5 + next(drift) * 0.1) * margin))) for _ in range(2))
    image = who.background[top : top + s, left : left + s]
    gain = who.gain * (1 + next(drift) * 0.05)
    if label in POSES:
        image = _over(image, who, POSES[label], drift)
    rows = image[0::2] + image[1::2]
    picture = (rows[:, 0::2] + rows[:, 1::2]) * (0.25 * gain)
    picture += _grain(_stream(seed, 2, signer, index, frame), size) * who.noise
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def _stream(*key: int) -> np.random.RandomState:
    # NumPy promises RandomState's values for ever; those of default_rng may change with a release.
    # PCG64 is seeded from 4 words, where MT19937 takes 624 and more time than the drawing of three bones.
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence(key)))


def _grain(stream: np.random.RandomState, size: int) -> Floats:
    # The sum of four uniform bytes is normal enough for a camera, and takes a fifth of the time.
    draws = np.frombuffer(stream.bytes(4 * size * size), np.uint8).reshape(4, size, size)
    grain: Floats = draws.sum(0, np.float32)
    grain -= 510
    grain /= 147.8
    return grain


def _drift(stream: np.random.RandomState, frame: int) -> Iterator[float]:
    """Smooth noise over a clip, standard deviation 0.9: value k is a sum of two slow sines, the same for all frames."""
    draws = stream.standard_normal((24, 2)).tolist(), stream.random_sample((24, 2)).tolist()
    for (slow, fast), (p, q) in zip(*draws, strict=True):
        yield 0.9 * (slow * math.sin(2 * math.pi * (frame / 45 + p)) + fast * math.sin(2 * math.pi * (frame / 19 + q)))


@lru_cache(maxsize=8)
def _signer(seed: int, number: int, size: int) -> Signer:
    stream = _stream(seed, 0, number)

    def normal(scale: float) -> float:
        return scale * float(stream.standard_normal())

    def uniform() -> float:
        return float(stream.random_sample())

    x, y, z = normal(0.5), 0.5 + normal(0.3), 1.0
    length = math.sqrt(x * x + y * y + z * z)
    return Signer(
        scale=1 + normal(0.05),
        thick=1 + normal(0.08),
        bones=[[bone * (1 + normal(0.04)) for bone in finger] for finger in BONES],
        left_handed=uniform() < 0.15,
        zoom=1.35 * (1 + normal(0.08)),
        offset=(normal(0.10), normal(0.10)),
        light=(x / length, y / length, z / length),
        tone=0.35 + 0.6 * uniform(),
        gain=0.8 + 0.4 * uniform(),
        noise=0.04 * uniform(),
        turn=(normal(8), normal(7), normal(5)),
        background=_background(stream, int(size * OVERSAMPLE * 1.2)),
    )


def _background(stream: np.random.RandomState, size: int) -> Floats:
    """A soft gradient with up to three rectangles, grey levels around 0.15 to 0.85, of shape (size, size)."""
    corners = stream.random_sample((4, 4))
    at = np.linspace(0, 3, size)
    # Cubic convolution (a = -0.75) over the 4 grid points, the outermost repeated beyond the edge.
    weights = np.zeros((4, size))
    for k in range(-1, 5):
        d = np.abs(at - k)
        near, far = (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3
        weights[min(max(k, 0), 3)] += np.where(d <= 1, near, np.where(d < 2, far, 0))
    canvas = np.zeros((size, size))
    for i in range(4):
        for j in range(4):
            canvas += weights[i][:, None] * weights[j] * corners[i, j]
    level, contrast = stream.random_sample(2).tolist()
    canvas = 0.15 + 0.7 * level + (canvas - 0.5) * 0.5 * contrast
    line = np.linspace(-1, 1, size)
    for _ in range(int(stream.randint(0, 4))):
        cx, cy, width, height, value = stream.random_sample(5).tolist()
        columns = np.abs(line - 2 * cx + 1) < 0.1 + 0.6 * width
        rows = np.abs(line - 2 * cy + 1) < 0.1 + 0.6 * height
        canvas += (rows[:, None] & columns) * ((value - 0.5) * 0.6)
    pixels: Floats = canvas.astype(np.float32)
    pixels.flags.writeable = False  # they are shared by all pictures of the signer
    return pixels


def _capsules(pose: Pose, who: Signer, drift: Iterator[float]) -> Iterator[Capsule]:
    """Every bone in the palm frame, before the signer's scale."""
    for i, ((knuckle, middle), spread) in enumerate(zip(pose.fingers, pose.spread, strict=True)):
        knuckle, middle = max(0, knuckle + next(drift) * 5), max(0, middle + next(drift) * 6)
        aside = math.radians(spread + next(drift) * 2)
        at: Vector = (*KNUCKLES[i], 0.0)
        yield (at[0] * 0.55, 0.08, -0.02), at, 0.152 * who.thick
        bend = 0.0
        for k, angle in enumerate((knuckle, middle, 0.6 * middle)):  # a finger's last joint follows its middle one
            bend += angle
            flexion, turn = math.radians(bend), aside * math.cos(math.radians(min(bend, 90)))
            length = who.bones[i][k]
            end = (
                at[0] + math.sin(turn) * math.cos(flexion) * length,
                at[1] + math.cos(turn) * math.cos(flexion) * length,
                at[2] + math.sin(flexion) * length,
            )
            yield at, end, RADII[i] * who.thick * (1 - 0.08 * k) * 0.965
            at = end
    yield from _thumb(tuple(v + next(drift) * 0.04 for v in pose.thumb), who.thick)
    for a, b, radius in PALM:
        yield a, b, radius * who.thick


def _thumb(tip: tuple[float, ...], thick: float) -> Iterator[Capsule]:
    """The first bone leads towards the target; two-bone inverse kinematics do the rest."""
    root, upper, lower = (0.30, 0.15, 0.05), 0.38, 0.34
    reach = math.dist(tip, root)
    lead = [t - r for t, r in zip(tip, root, strict=True)]
    first = (
        root[0] + 0.18 + 0.18 * lead[0] / reach,
        root[1] + 0.18 + 0.18 * lead[1] / reach,
        root[2] + 0.072 + 0.18 * lead[2] / reach,
    )
    reach = math.dist(tip, first)
    axis = [(t - f) / reach for t, f in zip(tip, first, strict=True)]
    reach = min(reach, upper + lower - 0.01)
    along = (upper * upper - lower * lower + reach * reach) / (2 * reach)
    pole = (0.8, 0.2, 0.5)  # the side to which the thumb's middle joint points
    lean = pole[0] * axis[0] + pole[1] * axis[1] + pole[2] * axis[2]
    side = [p - lean * x for p, x in zip(pole, axis, strict=True)]
    out = 0.6 * math.sqrt(max(1e-6, upper * upper - along * along)) / math.hypot(*side)
    elbow = (
        first[0] + axis[0] * along + side[0] * out,
        first[1] + axis[1] * along + side[1] * out,
        first[2] + axis[2] * along + side[2] * out,
    )
    end = (first[0] + axis[0] * reach, first[1] + axis[1] * reach, first[2] + axis[2] * reach)
    yield root, first, 0.16 * thick
    yield first, elbow, 0.1325 * thick
    yield elbow, end, 0.11 * thick


def _over(image: Floats, who: Signer, pose: Pose, drift: Iterator[float]) -> Floats:
    """The background with the hand before it, (s, s) like the background."""
    s = image.shape[0]
    yaw, pitch, roll = (
        math.radians(a + b + next(drift) * c) for a, b, c in zip(pose.turn, who.turn, (7, 6, 5), strict=True)
    )
    (sy, cy), (sp, cp), (sr, cr) = ((math.sin(v), math.cos(v)) for v in (yaw, pitch, roll))
    mirror = -1 if who.left_handed else 1

    def place(point: Vector) -> Vector:
        x, y, z = point[0] * who.scale, point[1] * who.scale - 0.75, point[2] * who.scale
        x, z = x * cy + z * sy, z * cy - x * sy
        y, z = y * cp - z * sp, y * sp + z * cp
        return (x * cr - y * sr) * mirror, x * sr + y * cr, z

    zoom = who.zoom * (1 + next(drift) * 0.06)
    right, up = (v + next(drift) * 0.09 for v in who.offset)
    line = np.linspace(-zoom, zoom, s)
    xs, ys = (line - right).astype(np.float32), (-line - up).astype(np.float32)
    depth, shade = np.full((s, s), FAR, np.float32), np.zeros((s, s), np.float32)
    for a, b, radius in _capsules(pose, who, drift):
        _draw(place(a), place(b), radius * who.scale, xs, ys, who.light, depth, shade)
    hit = depth > FAR
    contact = _blurred(depth * hit)
    contact -= depth
    np.clip(contact, 0, 0.5, out=contact)
    shade *= 0.6
    shade += 0.45
    shade *= who.tone
    shade *= 1 - contact  # darker beside nearer things
    return np.where(hit, shade, image)


def _draw(
    a: Vector,
    b: Vector,
    radius: float,
    xs: Floats,
    ys: Floats,
    light: Vector,
    depth: Floats,
    shade: Floats,
) -> None:
    """Keeps the nearest surface: its depth and the cosine between its normal and the light, not below 0."""
    s, step = len(xs), float(xs[1] - xs[0])
    x0 = max(0, math.ceil((min(a[0], b[0]) - radius - float(xs[0])) / step))
    x1 = min(s, math.floor((max(a[0], b[0]) + radius - float(xs[0])) / step) + 1)
    y0 = max(0, math.ceil((float(ys[0]) - max(a[1], b[1]) - radius) / step))
    y1 = min(s, math.floor((float(ys[0]) - min(a[1], b[1]) + radius) / step) + 1)
    if x0 >= x1 or y0 >= y1:
        return
    box = np.s_[y0:y1, x0:x1]
    px, py = xs[x0:x1] - a[0], (ys[y0:y1] - a[1])[:, None]
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    if dx * dx + dy * dy < 1e-6:
        dx = 1e-3  # a bone that points straight at the camera has no direction in the picture
    flat = dx * dx + dy * dy
    length = math.sqrt(flat)
    along = px * (dx / flat) + py * (dy / flat)  # 0 at a, 1 at b, of the bone as the camera sees it
    across = px * (dy / length) - py * (dx / length)
    gap = radius * radius - across * across
    # The ray's surface point lies on a sphere around the nearest point of the bone, a + f (b - a).
    f = (along + np.sqrt(np.maximum(gap, 0)) * (dz / (length * math.sqrt(flat + dz * dz)))).clip(0, 1)
    along -= f
    gap -= along * along * flat
    height = np.sqrt(np.maximum(gap, 0))
    z = height + f * dz + a[2]
    near = (gap > 0) & (z > depth[box])
    lit = px * (light[0] / radius) + py * (light[1] / radius)
    lit -= f * ((light[0] * dx + light[1] * dy) / radius)
    lit += height * (light[2] / radius)
    np.copyto(depth[box], z, where=near)
    np.copyto(shade[box], np.maximum(lit, 0), where=near)


def _blurred(depth: Floats) -> Floats:
    """Means over windows of two cells, 0 beyond the edges, then bilinear back to (s, s)."""
    s = depth.shape[0]
    n = s // CELLS
    rows, cells = np.zeros((CELLS, s), np.float32), np.zeros((CELLS + 2, CELLS + 2), np.float32)
    for i in range(n):
        rows += depth[i::n]
    for i in range(n):
        cells[1:-1, 1:-1] += rows[:, i::n]
    cells = (cells[1:, 1:] + cells[1:, :-1] + cells[:-1, 1:] + cells[:-1, :-1]) * (0.25 / (n * n))
    w = (np.arange(n, dtype=np.float32) + 0.5) / n
    tall = (cells[:-1, None] * (1 - w)[:, None] + cells[1:, None] * w[:, None]).reshape(s, CELLS + 1)
    wide = np.empty((s, CELLS, n), np.float32)
    for i, v in enumerate(w.tolist()):  # one column of each cell at a time: an innermost axis of n is slow
        wide[:, :, i] = tall[:, :-1] * (1 - v) + tall[:, 1:] * v
    return wide.reshape(s, s)
