"""What the verdicts of tested runs are worth: errors among accepted pictures of new people, and foreign pictures.

    gfnet fit --config base.yaml --config quick.yaml --config robust.yaml; gfnet test
    python benchmarks/rejection.py runs/robust/version_0 …                   # several runs: mean and range
    python benchmarks/rejection.py runs/robust/version_0 --sheet foreign.png  # shows the foreign pictures

Foreign pictures are of no class: noise, drawings, digits, photographs (the last two from scikit-learn). A blank picture
is not quite foreign if the data have a class without a hand, so the table says what is taken for one. Needs
`pip install 'gfnet_pl[test]'`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images

from gfnet_pl.evaluation.calibration import UNFAMILIAR, fit_temperature, log_loss, probabilities
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.result_files import read_calibration, read_results

SIDE = 96
COUNT = 200  # of each kind
Pictures = npt.NDArray[np.uint8]
Draw = Callable[[int, np.random.Generator], Pictures]


def noise(count: int, rng: np.random.Generator) -> Pictures:
    return rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def grain(count: int, rng: np.random.Generator) -> Pictures:
    """One grey level with normal noise, from faint to strong."""
    level, size = rng.uniform(60, 200, (count, 1, 1)), rng.uniform(5, 80, (count, 1, 1))
    return (level + size * rng.standard_normal((count, SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def clouds(count: int, rng: np.random.Generator) -> Pictures:
    """Noise of 3 to 23 pixels a side, enlarged."""
    sides = rng.integers(3, 24, count)
    return np.stack([_enlarged(rng.integers(0, 256, (side, side), dtype=np.uint8)) for side in sides])


def blank(count: int, rng: np.random.Generator) -> Pictures:
    levels = np.linspace(0, 255, count).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (count, SIDE, SIDE)).copy()


def slopes(count: int, rng: np.random.Generator) -> Pictures:
    """An even change of grey from one side to the other, with a little noise: a wall."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle, middle, size, grains = rng.uniform([[0], [40], [20], [0]], [[6.3], [215], [200], [8]], (4, count))[
        :, :, None, None
    ]
    plain = middle + size * (np.cos(angle) * x + np.sin(angle) * y)
    return (plain + grains * rng.standard_normal((count, SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def printed_digits(count: int, rng: np.random.Generator) -> Pictures:
    found = []
    for number in range(count):
        ground, ink = _two_greys(rng)
        image = Image.new("L", (SIDE, SIDE), ground)
        font = ImageFont.load_default(size=float(rng.uniform(50, 90)))
        place = tuple(SIDE / 2 + rng.uniform(-8, 8, 2))
        ImageDraw.Draw(image).text(place, str(number % 10), fill=ink, font=font, anchor="mm")
        found.append(np.asarray(image.rotate(float(rng.uniform(-15, 15)), fillcolor=ground)))
    return np.stack(found)


def written_digits(count: int, rng: np.random.Generator) -> Pictures:
    """Of 8 x 8 pixels, from scikit-learn, enlarged: white on black."""
    return np.stack([_enlarged((image * (255 / 16)).astype(np.uint8)) for image in load_digits().images[:count]])


def shapes(count: int, rng: np.random.Generator) -> Pictures:
    """One to three discs, polygons or lines on an even ground."""
    found = []
    for _ in range(count):
        ground, ink = _two_greys(rng)
        image = Image.new("L", (2 * SIDE, 2 * SIDE), ground)
        draw = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(1, 4))):
            x, y, radius = rng.uniform([40, 40, 20], [152, 152, 70])
            match int(rng.integers(0, 3)):
                case 0:
                    draw.ellipse((x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius), fill=ink)
                case 1:
                    sides = int(rng.integers(3, 7))
                    draw.regular_polygon((x, y, radius), sides, rotation=float(rng.uniform(0, 90)), fill=ink)
                case _:
                    corners = [tuple(rng.uniform(0, 2 * SIDE, 2)) for _ in range(4)]
                    draw.line(corners, fill=ink, width=int(rng.integers(4, 20)))
        found.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)))
    return np.stack(found)


def photographs(count: int, rng: np.random.Generator) -> Pictures:
    """Parts of scikit-learn's two: a temple and a flower."""
    whole = [Image.fromarray(image).convert("L") for image in load_sample_images().images]
    found = []
    for number in range(count):
        image = whole[number % len(whole)]
        side = int(rng.integers(SIDE, 400))
        x, y = (int(rng.integers(0, length - side)) for length in image.size)
        found.append(np.asarray(image.crop((x, y, x + side, y + side)).resize((SIDE, SIDE))))
    return np.stack(found)


FOREIGN: tuple[Draw, ...] = (noise, grain, clouds, shapes, printed_digits, written_digits, photographs, slopes, blank)
PLAIN = (slopes, blank)  # nothing is on them


def _enlarged(image: Pictures) -> Pictures:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _two_greys(rng: np.random.Generator) -> tuple[int, int]:
    while True:
        one, other = rng.integers(0, 256, 2).tolist()
        if abs(one - other) >= 60:
            return one, other


@torch.inference_mode()
def outputs(net: GFNet, pictures: Pictures) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits and features."""
    parts = [net.features(torch.from_numpy(part)[:, None]) for part in np.array_split(pictures, len(pictures) // 50)]
    features = torch.cat(parts)
    return net.head(features).numpy(), features.numpy()


def figures(run: RunFolder) -> dict[str, float]:
    """The figures of a run by name, as shares, except for the log losses."""
    results = read_results(run)
    assert results is not None, f"{run.path}: run gfnet test first"
    checkpoint = Checkpoint.load(run.checkpoint(Path(results.checkpoint["path"]).name))
    calibration = read_calibration(checkpoint.path)
    assert calibration is not None and calibration.familiarity is not None
    found: dict[str, float] = {"temperature": calibration.temperature}
    for name in ("val", "unseen"):
        part, of_set = results.sets[name], results.figures[name]
        found |= {f"{name}: right": of_set.accuracy.share, f"{name}: log loss": of_set.log_loss}
        found[f"{name}: log loss, calibrated"] = of_set.calibrated_log_loss
        for each in of_set.acceptance:
            found[f"{name}: accepted at {each.error_rate:.0%}"] = each.accepted.share
            found[f"{name}: wrong of these at {each.error_rate:.0%}"] = each.wrong.share or 0.0
        familiar = calibration.familiar(part.features)
        found[f"{name}: unlike the training pictures"] = 1 - familiar.mean()
        if "val" in results.sets:  # what a temperature of the same people would do
            known = results.sets["val"]
            found[f"{name}: log loss at the temperature of val"] = log_loss(
                part.logits, part.labels, fit_temperature(known.logits, known.labels)
            )
    # The same with the probability alone, at the threshold that keeps as many good pictures as the distance does.
    fitted = results.sets[results.fitted_on or "val"]
    confidence = probabilities(fitted.logits, calibration.temperature).max(1)
    least = float(np.quantile(confidence[fitted.predictions == fitted.labels], 0.05))
    net, rng = checkpoint.net(), np.random.default_rng(0)
    accepted: dict[str, float] = {}
    for draw in FOREIGN:
        logits, features = outputs(net, draw(COUNT, rng))
        name, verdicts = draw.__name__.replace("_", " "), calibration.verdicts(logits, features)
        sure = probabilities(logits, calibration.temperature).max(1)
        found[f"{name}: turned away by probability alone"] = float((sure < least).mean())
        found[f"{name}: turned away by distance"] = np.mean([each.reason == UNFAMILIAR for each in verdicts])
        accepted[name] = found[f"{name}: accepted"] = np.mean([each.accepted == "yes" for each in verdicts])
        if draw in PLAIN:
            empty = [checkpoint.classes.index(label) for label in ("Nothing", "Space") if label in checkpoint.classes]
            taken = np.array([each.accepted == "yes" for each in verdicts])
            found[f"{name}: accepted as another class than Nothing"] = float(
                (taken & ~np.isin(logits.argmax(1), empty)).mean()
            )
    found["all foreign pictures: accepted"] = float(np.mean(list(accepted.values())))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a tested run: runs/<stage>/version_N")
    parser.add_argument("--sheet", type=Path, help="write twelve pictures of each kind as one PNG")
    values = parser.parse_args()
    torch.set_num_threads(1)
    if values.sheet:
        rng = np.random.default_rng(0)
        Image.fromarray(np.concatenate([np.concatenate(draw(12, rng), 1) for draw in FOREIGN])).save(values.sheet)
    of_runs = [figures(RunFolder(path)) for path in values.runs]
    print(f"| {len(of_runs)} runs | mean | least | most |\n|---|---|---|---|")
    for name in of_runs[0]:
        row = np.array([each[name] for each in of_runs])
        shown = ["%.3f" if "loss" in name or name == "temperature" else "%.1f %%"] * 3
        factor = 1 if "loss" in name or name == "temperature" else 100
        print(
            f"| {name} |",
            " | ".join(
                form % (factor * value) for form, value in zip(shown, (row.mean(), row.min(), row.max()), strict=True)
            ),
            "|",
        )


if __name__ == "__main__":
    main()
