"""For whom a net works: what goes with its failures, and the worst person's pictures beside the nearest it learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gfnet_pl.data.batches import channels_first
from gfnet_pl.data.collection import Collection
from gfnet_pl.data.group_table import Properties
from gfnet_pl.evaluation.enrolment import InMirror
from gfnet_pl.evaluation.figures import SetFigures, people, worst_person
from gfnet_pl.evaluation.intervals import mcnemar
from gfnet_pl.evaluation.tendencies import FEWEST_GROUPS, Tendency, tendencies
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.report.words import percent
from gfnet_pl.run.results import Results

Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_PER_CLASS = 60  # training pictures that are looked through, evenly over the class: their features take a second or two
_SHOWN = 3  # of the worst person's errors
_MOST_MIRRORED = 500  # of the worst person's pictures
_CHANCE = 0.05


@dataclass(frozen=True)
class Beside:
    """An error beside training pictures, nearest by the net's features.

    Attributes:
        label: Its class.
        said: The class that it was taken for.
        image: The picture.
        learned: The nearest training picture of its class.
        of: Whose that is.
        mistaken_for: The nearest training picture of the class that it was taken for.
        by: Whose that is.
    """

    label: str
    said: str
    image: Images
    learned: Images
    of: str
    mistaken_for: Images
    by: str


@dataclass(frozen=True)
class WorstPerson:
    """The person of the trusted set for whom the net works worst.

    Attributes:
        name: Of the group.
        pictures: Some of the errors; empty if there are none.
        in_mirror: Which share is right of the pictures as they are and in a mirror; None unless the latter is larger
            by more than chance.
    """

    name: str
    pictures: list[Beside]
    in_mirror: tuple[float, float] | None


def of_people(each: SetFigures, properties: Properties) -> list[Tendency]:
    """Which properties go with the failures among a set's people; empty if too few of them are known."""
    return tendencies({name: share.share or 0.0 for name, share in people(each)}, properties)


def tendency_words(each: SetFigures, properties: Properties, found: Sequence[Tendency]) -> str:
    """What stands out, in a sentence or two; empty where there is no table of properties."""
    known = [name for name, _ in people(each) if name in properties]
    if not known:
        return ""
    if len(known) < FEWEST_GROUPS:
        return f"Of {len(known)} people properties are known; it takes {FEWEST_GROUPS} to say what goes with failures."
    if not found:
        return ""
    first = found[0]
    loud = [one for one in found if one.stands_out]
    if not loud:
        return (
            f"No property clearly goes with the failures of these {len(known)} people. The largest correlation, with "
            f"{first.name}, would be as large by chance in {percent(first.by_chance)} of draws."
        )
    one = loud[0]
    sides = ("the others", "those with it") if not one.is_number else ("the half with less", "the half with more")
    also = f" So may {' and '.join(other.name for other in loud[1:3])}." if len(loud) > 1 else ""
    return (
        f"Failures go with {one.name}: {percent(one.less)} are right of {sides[0]}, {percent(one.more)} of {sides[1]}."
        f"{also}"
    )


def worst_of(
    results: Results,
    net: GFNet,
    found: Collection,
    images: Callable[[npt.ArrayLike], Images],
    in_mirror: InMirror | None,
    errors: Sequence[int],
) -> WorstPerson | None:
    """The worst person of the trusted set; None where nobody is known to be.

    Args:
        results: Of the run.
        net: Its net.
        found: Its pictures, with those of training.
        images: Gives the pictures at positions in `Results.everything`.
        in_mirror: What the net says of their mirror images; None if it looks in the mirror by itself.
        errors: Positions of errors there, in the order in which they are to be shown.
    """
    name, everything = results.trusted, results.everything
    if (worst := worst_person(results.figures[name])) is None:
        return None
    who, _ = worst
    of_worst = [p for p, each in enumerate(everything.pictures) if each.group == who and each.split == name]
    some = np.array(of_worst)[np.linspace(0, len(of_worst) - 1, min(len(of_worst), _MOST_MIRRORED)).astype(int)]
    turned = None
    if in_mirror:
        mirrored = in_mirror(some).shares.argmax(1)
        turned = better_in_mirror(everything.predictions[some], mirrored, everything.labels[some])
    mine = [place for place in errors if place in of_worst][:_SHOWN]
    pairs = [(results.classes[everything.labels[p]], results.classes[everything.predictions[p]]) for p in mine]
    chosen = _sample(found, {label for pair in pairs for label in pair})
    if not mine or not all(label in chosen and said in chosen for label, said in pairs):
        return WorstPerson(who, [], turned)
    with torch.inference_mode():
        own = net.features(channels_first(torch.from_numpy(images(mine)))).numpy()
        of_class = {
            label: net.features(channels_first(torch.from_numpy(found.images[found.rows[places]]))).numpy()
            for label, places in chosen.items()
        }

    def nearest(place: int, label: str) -> tuple[Images, str]:
        at = chosen[label][int(np.square(of_class[label] - own[place]).sum(1).argmin())]
        return np.asarray(found.images[found.rows[at]]), found.pictures[at].group

    return WorstPerson(
        who,
        [
            Beside(label, said, image, *nearest(place, label), *nearest(place, said))
            for place, (image, (label, said)) in enumerate(zip(images(mine), pairs, strict=True))
        ],
        turned,
    )


def better_in_mirror(predictions: Ints, mirrored: Ints, labels: Ints) -> tuple[float, float] | None:
    """Which share of a person's pictures is right as they are and in a mirror; None unless the second is larger.

    It is larger only where McNemar's test says that this is no chance.

    Args:
        predictions: (N,) of the pictures as they are.
        mirrored: (N,) of their mirror images.
        labels: (N,).
    """
    before, after = predictions == labels, mirrored == labels
    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    if better <= worse or mcnemar(better, worse) >= _CHANCE:
        return None
    return float(before.mean()), float(after.mean())


def mirror_words(worst: WorstPerson | None) -> str:
    """What it means that the worst person is read better in a mirror; empty where he is not."""
    if worst is None or worst.in_mirror is None:
        return ""
    before, after = worst.in_mirror
    return (
        f"In a mirror {percent(after)} of the pictures of {worst.name} are right instead of {percent(before)}: perhaps "
        "the other hand. gfnet enrol sees such a person in a mirror. The net itself learns that hand from more people "
        "who use it, or from mirror images (--data.augment.flip 0.5)."
    )


def _sample(found: Collection, classes: set[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Positions of training pictures of these classes."""
    of_class: dict[str, list[int]] = {label: [] for label in classes}
    for place, picture in enumerate(found.pictures):
        if picture.split == "train" and picture.label in of_class:
            of_class[picture.label].append(place)
    return {
        label: np.array(places)[np.linspace(0, len(places) - 1, min(len(places), _PER_CLASS)).astype(int)]
        for label, places in of_class.items()
        if places
    }
