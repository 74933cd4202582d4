"""The sheet of docs/people.md: every letter of version 2, then the signers of dev; and how long a picture takes.

python benchmarks/hand_signs.py [--out docs/hand-signs-v2.png]
"""

import argparse
import time
from pathlib import Path

from PIL import Image

from gfnet_pl.hand_signs import drawing, scene
from gfnet_pl.hand_signs.people import DEV, TOGETHER
from gfnet_pl.hand_signs.poses import CLASSES

SIDE = 96
SHOWN = "AEGMPTW"  # in both clips of each signer of dev
USUAL = 1006  # a signer near the middle of most ranges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/hand-signs-v2.png"))
    out = parser.parse_args().out
    letters = [scene.render(label, number=USUAL, clip=1, frame=0) for label in CLASSES]
    people = [
        scene.render(label, number=DEV + person, clip=clip, frame=0)
        for person in range(TOGETHER)
        for label in SHOWN
        for clip in (1, 2)
    ]
    sheet = Image.new("L", (7 * SIDE, 4 * SIDE + TOGETHER * SIDE // 2))
    for place, picture in enumerate(letters):
        sheet.paste(Image.fromarray(picture), (place % 7 * SIDE, place // 7 * SIDE))
    for place, picture in enumerate(people):
        small = Image.fromarray(picture).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
        sheet.paste(small, (place % 14 * SIDE // 2, 4 * SIDE + place // 14 * SIDE // 2))
    sheet.quantize(24).save(out, optimize=True)
    for version, draw in (
        (1, lambda label, frame: drawing.render(label, signer=3, frame=frame)),
        (2, lambda label, frame: scene.render(label, number=3, clip=1, frame=frame)),
    ):
        began = time.process_time()
        for frame in range(6):
            for label in CLASSES:
                draw(label, frame)
        print(f"version {version}: {1000 * (time.process_time() - began) / 6 / len(CLASSES):.2f} ms per picture")
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
