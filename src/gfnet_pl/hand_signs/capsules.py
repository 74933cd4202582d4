"""What every version of the drawn hands is made of: frozen random streams, bones as capsules, their soft shadow.

A capsule is a bone's ends and a radius; a ray straight down z meets it in closed form, only inside the capsule's
bounding box. Pixels are float32 and see only additions, products and square roots, so that they are the same on every
machine, within one grey level.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gfnet_pl.hand_signs.poses import Vector

Floats = npt.NDArray[np.float32]

OVERSAMPLE = 2  # rays per pixel along an axis
CELLS = 32  # the soft shadow is computed on this many cells along an axis
FAR = -1e9


def random_stream(*key: int) -> np.random.RandomState:
    # NumPy promises RandomState's values for ever; those of default_rng may change with a release.
    # PCG64 is seeded from 4 words, where MT19937 takes 624 and more time than the drawing of three bones.
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence(key)))


def camera_grain(stream: np.random.RandomState, size: int) -> Floats:
    # The sum of four uniform bytes is normal enough for a camera, and takes a fifth of the time.
    draws = np.frombuffer(stream.bytes(4 * size * size), np.uint8).reshape(4, size, size)
    grain: Floats = draws.sum(0, np.float32)
    grain -= 510
    grain /= 147.8
    return grain


def clip_drift(stream: np.random.RandomState, frame: int) -> Iterator[float]:
    """Smooth noise over a clip, standard deviation 0.9: value k is a sum of two slow sines, the same for all frames."""
    draws = stream.standard_normal((24, 2)).tolist(), stream.random_sample((24, 2)).tolist()
    for (slow, fast), (p, q) in zip(*draws, strict=True):
        yield 0.9 * (slow * math.sin(2 * math.pi * (frame / 45 + p)) + fast * math.sin(2 * math.pi * (frame / 19 + q)))


def wall(stream: np.random.RandomState, size: int) -> Floats:
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


def draw_capsule(
    a: Vector,
    b: Vector,
    radius: float,
    xs: Floats,
    ys: Floats,
    light: Vector,
    depth: Floats,
    shade: Floats,
    *,
    taper: float = 0,
) -> None:
    """Keeps the nearest surface: its depth and the cosine between its normal and the light, not below 0.

    Args:
        a: One end.
        b: The other end.
        radius: Its radius, that of `a` if it tapers.
        xs: (s,) the columns' places, ascending.
        ys: (s,) the rows' places, descending.
        light: Where the light is, of length 1.
        depth: (s, s) nearest z so far.
        shade: (s, s) cosines so far.
        taper: By how much the radius is smaller at `b`, 0 or more.
    """
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
    wide: float | Floats = radius - np.float32(taper) * along.clip(0, 1) if taper else radius
    gap = wide * wide - across * across
    # The ray's surface point lies on a sphere around the nearest point of the bone, a + f (b - a).
    f = (along + np.sqrt(np.maximum(gap, 0)) * (dz / (length * math.sqrt(flat + dz * dz)))).clip(0, 1)
    along -= f
    gap -= along * along * flat
    height = np.sqrt(np.maximum(gap, 0))
    z = height + f * dz + a[2]
    near = (gap > 0) & (z > depth[box])
    lit = px * (light[0] / wide) + py * (light[1] / wide)
    lit -= f * ((light[0] * dx + light[1] * dy) / wide)
    lit += height * (light[2] / wide)
    np.copyto(depth[box], z, where=near)
    np.copyto(shade[box], np.maximum(lit, 0), where=near)


def blurred(depth: Floats) -> Floats:
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


def seen_part(behind: Floats, size: int, drift: Iterator[float]) -> Floats:
    """The part of a wall that a frame shows, (size, size): the camera moves a little."""
    margin = behind.shape[0] - size
    left, top = (max(0, min(margin, int((0.5 + next(drift) * 0.1) * margin))) for _ in range(2))
    return behind[top : top + size, left : left + size]


def before(image: Floats, depth: Floats, shade: Floats, tone: float | Floats) -> Floats:
    """The image with what was drawn before it, (s, s); `shade` is changed.

    Args:
        image: What is behind.
        depth: Of the nearest surface, `FAR` where there is none.
        shade: Cosine between its normal and the light.
        tone: How light it is.
    """
    hit = depth > FAR
    contact = blurred(depth * hit)
    contact -= depth
    np.clip(contact, 0, 0.5, out=contact)
    shade *= 0.6
    shade += 0.45
    shade *= tone
    shade *= 1 - contact  # darker beside nearer things
    return np.where(hit, shade, image)


def photographed(image: Floats, gain: float, noise: float, stream: np.random.RandomState) -> npt.NDArray[np.uint8]:
    """What the camera makes of it: (s, s) -> a picture of half the side, with grain of this standard deviation."""
    rows = image[0::2] + image[1::2]
    picture = (rows[:, 0::2] + rows[:, 1::2]) * (0.25 * gain)
    picture += camera_grain(stream, len(picture)) * noise
    return (picture.clip(0, 1) * 255).astype(np.uint8)
