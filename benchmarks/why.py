"""Why a signer of version 1 is read worse: his pictures drawn again with one thing changed, scored by a run's net.

python benchmarks/why.py CHECKPOINT… --signer 67 [--picture docs/signer067.png --change "light from above"]
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gfnet_pl.data.batches import channels_first
from gfnet_pl.hand_signs import drawing
from gfnet_pl.hand_signs.poses import CLASSES
from gfnet_pl.run.checkpoint import Checkpoint

FRAMES = 6
SHOWN = "GIMNSTXR"


def changes(who: drawing.Signer) -> dict[str, dict[str, object]]:
    """What is changed, each alone: to the value of the usual signer, or to the other hand."""
    lighter = float(who.background.mean()) < 0.5
    return {
        "nothing": {},
        "light from above": {"light": (0.05, 0.45, 0.89)},
        "usual thickness": {"thick": 1.0},
        "usual bones": {"bones": [list(finger) for finger in drawing.BONES]},
        "usual distance": {"zoom": 1.4},
        "in the middle": {"offset": (0.0, 0.0)},
        "not turned": {"turn": (0.0, 0.0, 0.0)},
        "the other hand": {"left_handed": not who.left_handed},
        "skin far from the wall": {"tone": 0.9 if lighter else 0.35},
        "no grain": {"noise": 0.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--signer", type=int, default=67)
    parser.add_argument("--picture", type=Path, help="letters as drawn, and below them with --change")
    parser.add_argument("--change", default="light from above")
    values = parser.parse_args()
    nets = []
    for path in values.checkpoints:
        checkpoint = Checkpoint.load(path)
        nets.append((checkpoint.classes, checkpoint.net().eval()))
    usual = drawing._signer
    who, rows = usual(0, values.signer, 96), []
    for name, change in changes(who).items():
        drawn = dataclasses.replace(who, **change)
        drawing._signer = lambda *_, drawn=drawn: drawn  # type: ignore[assignment]
        pictures = [
            drawing.render(label, signer=values.signer, frame=frame) for label in CLASSES for frame in range(FRAMES)
        ]
        truth = np.repeat(CLASSES, FRAMES)
        if name in ("nothing", values.change):
            rows.append(np.concatenate([pictures[CLASSES.index(label) * FRAMES] for label in SHOWN], axis=1))
        shares = []
        for classes, net in nets:
            with torch.no_grad():
                said = np.array(classes)[net(channels_first(torch.from_numpy(np.stack(pictures)))).argmax(1).numpy()]
            shares.append(100 * float((said == truth).mean()))
        print(f"{name:24} {' '.join(f'{share:5.1f}' for share in shares)}  mean {np.mean(shares):.1f}")
    if values.picture:
        Image.fromarray(np.concatenate(rows)).save(values.picture, optimize=True)


if __name__ == "__main__":
    main()
