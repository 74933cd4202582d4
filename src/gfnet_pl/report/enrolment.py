"""What it brings if a new person first shows each sign: a chart of the unseen people, and a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gfnet_pl.evaluation.calibration import Calibration, probabilities
from gfnet_pl.evaluation.enrolment import PICTURES, Floats, InMirror, PersonCurve, Seen, clips_in, enrolment_curve
from gfnet_pl.report.charts import line_chart
from gfnet_pl.report.words import percent
from gfnet_pl.run.results import Results

_MOST = 8  # people with a line of their own; of more, only the worst one's
_MEAN = "mean"


def seen(calibration: Calibration, logits: Floats, features: Floats) -> Seen:
    """What a net's outputs say, as an enrolment takes them."""
    shares, learned = probabilities(logits, calibration.temperature), calibration.familiarity
    if learned is None:
        return Seen(shares, features)
    return Seen.of(shares, features, learned.distances(features), learned.limit)


def curve_of(results: Results, mirrored: InMirror | None = None) -> list[PersonCurve]:
    """What showing pictures brings the unseen people; empty where nobody is known to be unseen.

    Args:
        results: Of the run.
        mirrored: What the net says of the mirror images of pictures, by their positions in `Results.everything`.
    """
    unseen, everything = results.sets.get("unseen"), results.everything
    if unseen is None or "unseen" in results.known or not unseen.groups or not all(unseen.groups):
        return []
    found = [(each.path, place) for place, each in enumerate(everything.pictures) if each.split == "unseen"]
    paths, places = zip(*sorted(found), strict=True)  # frame by frame
    order = np.array(places)
    return enrolment_curve(
        seen(results.calibration, everything.logits[order], everything.features[order]),
        everything.labels[order],
        [everything.pictures[place].group for place in places],
        clips_in(paths),
        mirrored=(lambda some: mirrored(order[some])) if mirrored else None,
    )


def enrolled(curve: Sequence[PersonCurve]) -> dict[str, Any]:
    """Values for the page: `enrolled_chart`, `enrolled_words`, `enrolled_note`; "" where there is nothing to show."""
    if not curve:
        return dict.fromkeys(("enrolled_chart", "enrolled_words", "enrolled_note"), "")
    worst = min(curve, key=lambda person: person.shares[0])
    mean = np.mean([person.shares for person in curve], 0).tolist()
    shown = {person.name: person.shares for person in (curve if len(curve) <= _MOST else [worst])} | {_MEAN: mean}
    lines = {name: list(zip(map(float, PICTURES), shares, strict=True)) for name, shares in shown.items()}
    quiet = [name for name in lines if name not in (worst.name, _MEAN)]
    chart = line_chart(lines, x="pictures shown per class", y="accuracy on unseen", percent=True, quiet=quiet)
    of_worst = f"{percent(worst.shares[1])} instead of {percent(worst.shares[0])}"
    words = (
        f"If a new person first shows each sign once, {percent(mean[1], 1)} instead of {percent(mean[0], 1)} of the "
        f"other pictures are right (mean of {len(curve)} people), and of {worst.name} {of_worst}."
    )
    if all(person.of_other_clips for person in curve):
        note = "The pictures that are tested are of other clips than those that were shown."
    else:
        note = (
            "There is only one clip of each person, so the pictures that are tested are other frames of the clip that "
            "was shown: another day, light or place will gain less."
        )
    return {"enrolled_chart": Markup(chart), "enrolled_words": words, "enrolled_note": note}
