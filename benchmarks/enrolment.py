"""Enrolment: how the weight is chosen, and what it brings to people whom the net never saw.

    python benchmarks/enrolment.py RUN…          # what it brings; tested runs, one per seed
    python benchmarks/enrolment.py --weight RUN…      # also how the weight is chosen, which takes several times as long

New people are those of dev and unseen, once with nobody seen in a mirror and once as `gfnet enrol` does it. The weight
is chosen on people of validation: each shows one training picture of every class, and his validation pictures are
tested. They are left out in turn: a person's figures are by the weight with the least log loss for the others. With a
part of the classes missing, drawn four times, the two ways to treat these are compared.
"""

import argparse
from pathlib import Path

import numpy as np

from gfnet_pl import Classifier
from gfnet_pl.data.collection import folder_of, named_root
from gfnet_pl.data.decode import read_all
from gfnet_pl.data.splits import read_splits
from gfnet_pl.evaluation.enrolment import (
    PICTURES,
    WEIGHT,
    Enrolment,
    better_mirrored,
    clips_in,
    enrolment_curve,
    mirror_images,
    trials,
)
from gfnet_pl.export.runtime import run_all
from gfnet_pl.hand_signs.files import hand_signs_root
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.folder import RunFolder

WEIGHTS = (0, 5, 10, 15, 20, 30, 40, 80, 120, 200)
MISSING = (0, 0.25, 0.5, 0.75, 0.9)
DRAWS = 4


class Outputs:
    """What a run's net gives for pictures of some splits, as they are and in a mirror."""

    def __init__(self, run, splits, *, mirrored):
        folder = RunFolder(Path(run))
        self.classifier = classifier = Classifier.load(run)
        settings = Checkpoint.load(folder.checkpoint_to_test()).settings
        root = Path(named_root(settings["data.root"])) if settings.get("data.root") else hand_signs_root()
        pictures = sorted((p for p in read_splits(folder.splits) if p.split in splits), key=lambda p: p.path)
        pixels = read_all([folder_of(root) / picture.path for picture in pictures], classifier.canvas)
        found = run_all(classifier.runtime, pixels)
        self.seen, self.distance = classifier.seen(found), found.distance
        in_mirror = run_all(classifier.runtime, mirror_images(pixels)) if mirrored else found
        self.in_mirror, self.distance_in_mirror = classifier.seen(in_mirror), in_mirror.distance
        self.labels = np.array([classifier.classes.index(picture.label) for picture in pictures])
        self.people = np.array([picture.group for picture in pictures])
        self.split = np.array([picture.split for picture in pictures])
        self.clips = np.array(clips_in([picture.path for picture in pictures]))


def plain(enrolment, shares, features, weight):
    """Without anything for the classes that are missing: to compare."""
    cosines = features / np.linalg.norm(features, axis=1, keepdims=True) @ enrolment.means.T
    scores = np.log(np.maximum(shares, 1e-30)) + weight * cosines
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def validation(of, missing, way):
    """Right pictures and log loss by person and weight, (people, weights), and the pictures by person."""
    right, loss, count = [], [], []
    chance = np.random.default_rng(0)
    classes = of.seen.shares.shape[1]
    for person in sorted(set(of.people[of.split == "val"])):
        pool = np.flatnonzero((of.split == "train") & (of.people == person))
        test = np.flatnonzero((of.split == "val") & (of.people == person))
        rows = np.zeros((2, len(WEIGHTS)))
        for _ in range(DRAWS if missing else 1):
            left = chance.permutation(classes)[int(missing * classes) :]
            shown = [places[0] for each in left if len(places := pool[of.labels[pool] == each])]
            enrolment = Enrolment.of(of.seen.features[shown], of.labels[shown], classes)
            for number, weight in enumerate(WEIGHTS):
                said = way(enrolment, of.seen.shares[test], of.seen.features[test], weight)
                true = said[np.arange(len(test)), of.labels[test]]
                rows[:, number] += (said.argmax(1) == of.labels[test]).sum(), -np.log(np.maximum(true, 1e-30)).sum()
        right.append(rows[0])
        loss.append(rows[1])
        count.append(len(test) * (DRAWS if missing else 1))
    return np.array(right), np.array(loss), np.array(count)


def tell_choice(of):
    right, loss, count = validation(of, 0, Enrolment.probabilities)
    chosen = np.array([np.delete(loss, out, 0).sum(0).argmin() for out in range(len(loss))])
    mine = np.arange(len(loss)), chosen
    names, times = np.unique(np.array(WEIGHTS)[chosen], return_counts=True)
    print(f"weights chosen by the others: {dict(zip(names.tolist(), times.tolist(), strict=True))}")
    loss_before, right_before = (each[:, 0].sum() / count.sum() for each in (loss, right))
    loss_after, right_after = (each[mine].sum() / count.sum() for each in (loss, right))
    print(f"validation people, left out in turn: log loss {loss_before:.4f} -> {loss_after:.4f},")
    print(f"accuracy {right_before:.2%} -> {right_after:.2%}\n")
    at = WEIGHTS.index(int(WEIGHT))
    print("| classes missing | accuracy, log loss: as near as the nearest | left as they are |\n| --- | --- | --- |")
    for missing in MISSING:
        cells = []
        for way in (Enrolment.probabilities, plain):
            right, loss, count = validation(of, missing, way)
            cells.append(f"{right[:, at].sum() / count.sum():.2%}, {loss[:, at].sum() / count.sum():.3f}")
        print(f"| {missing:.0%} | {cells[0]} | {cells[1]} |")


def accepted(of, split):
    """Share accepted and share of these that is wrong, before and after one picture of each class."""
    rows = np.zeros((2, 3))
    threshold = of.classifier.calibration.rejections[0].threshold
    for person in sorted(set(of.people[of.split == split])):
        mine = np.flatnonzero((of.split == split) & (of.people == person))
        for part in trials(of.labels[mine], of.clips[mine].tolist()):
            test, pool = mine[part.tested], mine[part.enrolled]
            shown = [pool[of.labels[pool] == each][0] for each in np.unique(of.labels[pool])]
            alone = of.classifier.mirrored_views  # the net looks in the mirror by itself
            turned = not alone and better_mirrored(of.seen.at(shown), of.in_mirror.at(shown), of.labels[shown])
            its, distance = (of.in_mirror, of.distance_in_mirror) if turned else (of.seen, of.distance)
            enrolment = Enrolment.of(its.features[shown], of.labels[shown], its.shares.shape[1])
            after = enrolment.probabilities(its.shares[test], its.features[test])
            for row, said, away in zip(
                rows, (of.seen.shares[test], after), (of.distance[test], distance[test]), strict=True
            ):
                familiar = away <= of.classifier.familiar_within
                taken = (said.max(1) >= (threshold or np.inf)) & familiar
                row += len(test), taken.sum(), (taken & (said.argmax(1) != of.labels[test])).sum()
    return rows


def table(curve):
    print(f"\n| person | {' | '.join(map(str, PICTURES))} |\n{'| --- ' * (len(PICTURES) + 1)}|")
    shares = np.array([each.shares for each in curve])
    rows = [(each.name, each.shares) for each in curve] + [("mean", shares.mean(0)), ("worst", shares.min(0))]
    for name, row in rows:
        print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in row)} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--weight", action="store_true")
    values = parser.parse_args()
    curves = {}
    for run in values.runs:
        print(f"\n{run}\n")
        if values.weight:
            tell_choice(Outputs(run, ("train", "val"), mirrored=False))
        of = Outputs(run, ("dev", "unseen"), mirrored=True)
        for split in sorted(set(of.split)):
            here = np.flatnonzero(of.split == split)
            arrays = (of.seen.at(here), of.labels[here], of.people[here], of.clips[here].tolist())
            for way, mirrored in (("nobody in a mirror", None), ("as gfnet enrol", of.in_mirror.at(here).at)):
                if mirrored and of.classifier.mirrored_views:
                    continue
                curve = enrolment_curve(*arrays, mirrored=mirrored)
                curves.setdefault((split, way), []).append([each.shares for each in curve])
                clips = "other clips" if all(each.of_other_clips for each in curve) else "frames of the same clip"
                print(f"\n{split}, {way}, tested on {clips}")
                table(curve)
            for word, (images, taken, wrong) in zip(("before", "after"), accepted(of, split), strict=True):
                print(f"\n{split}, accepted {word}: {taken / images:.1%}, of these wrong {wrong / max(1, taken):.2%}")
    for (split, way), each in curves.items():
        shares = 100 * np.array(each)  # (runs, people, counts)
        print(f"\n{split}, {way}, {len(each)} runs: mean of people {np.round(shares.mean((0, 1)), 1)},")
        print(f"from {np.round(shares.mean(1).min(0), 1)} to {np.round(shares.mean(1).max(0), 1)};")
        worst = shares.min(1)
        print(f"worst person, mean {np.round(worst.mean(0), 1)}, of all runs {np.round(worst.min(0), 1)}")


if __name__ == "__main__":
    main()
