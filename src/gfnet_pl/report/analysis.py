"""What a report shows besides the figures: leaks, overlap of classes and its cause, the filters, the worst errors.

If something that an answer needs is unavailable, the answer is a `Missing`. It says what is unavailable and how to get
it, so the page explains every gap.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfnet_pl.data.batches import channels_first
from gfnet_pl.data.collection import Collection, collect
from gfnet_pl.data.duplicates import leak_share
from gfnet_pl.data.groups import kinds_of
from gfnet_pl.data.splits import EVALUATED
from gfnet_pl.errors import UserError
from gfnet_pl.evaluation.calibration import Calibration, Floats, Ints
from gfnet_pl.evaluation.embedding import umap_map
from gfnet_pl.evaluation.enrolment import InMirror, PersonCurve, Seen, mirror_images
from gfnet_pl.evaluation.filters import discriminative_frequencies, energy_by_radius, kernels, magnitude, movement
from gfnet_pl.evaluation.neighbours import neighbour_confusion, pixel_space, principal_components
from gfnet_pl.evaluation.overlap import (
    ConfusedPair,
    Explanation,
    confused_pairs,
    explain,
    pair_overlap,
)
from gfnet_pl.evaluation.saliency import effective_receptive_field, integrated_gradients, receptive_radius
from gfnet_pl.files import read_arrays
from gfnet_pl.model.gfnet import GFNet
from gfnet_pl.report.enrolment import curve_of, seen
from gfnet_pl.report.labels import Doubts, doubts
from gfnet_pl.report.people import WorstPerson, worst_of
from gfnet_pl.run.results import Results, SetResults
from gfnet_pl.run.run import Run

Images = npt.NDArray[np.uint8]
Pixels = Callable[[npt.ArrayLike], Images]

log = logging.getLogger(__name__)

_NEIGHBOURS = 6_000  # pictures that are compared with each other, at most
_MAPPED = 1_000  # pictures on the map, at most
_WORST = 24
_PAIRS = 8
_PER_CLASS = 20  # pictures per class from which a pair's frequencies are measured
_FIELD = 8  # pictures for the receptive field
_KERNELS = 6  # channels shown per block
_AT_ONCE = 64  # pictures that the net sees at once
_EXPLAINED = 6  # worst errors with a saliency map, which takes 32 gradients each


@dataclass(frozen=True)
class Missing:
    """The reason why an answer is unavailable, and what to do about it."""

    reason: str


@dataclass(frozen=True)
class Overlap:
    """Which classes overlap, in pixels and in the net's features.

    Attributes:
        explanation: Whether the overlap in pixels explains the errors.
        pairs: The most confused pairs of classes.
        pixels: (classes, classes) overlap of two classes in pixels.
        features: (classes, classes) overlap of two classes in features.
        examples: For each pair, pictures of one class that were taken for the other, as positions in
            `Results.everything`.
        compared: Number of pictures from which these figures are computed.
    """

    explanation: Explanation
    pairs: list[ConfusedPair]
    pixels: Floats
    features: Floats
    examples: list[list[int]]
    compared: int


@dataclass(frozen=True)
class Maps:
    """Maps of M pictures on which similar pictures are near each other. Positions go from 0 to 1 on both axes.

    Attributes:
        places: (M,) the pictures, as positions in `Results.everything`.
        pixels: (M, 2) the map by pixels; None if the pictures are unavailable.
        features: (M, 2) the map by the net's features.
    """

    places: Ints
    pixels: npt.NDArray[np.float32] | None
    features: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Filters:
    """The properties of the filters, see `evaluation.filters`.

    Attributes:
        magnitude: (depth, H, W).
        kernels: For each block (K, H, W), of the K channels with the most energy.
        energy: (depth, radii), shares of the energy by radius.
        history: Numbers of epochs (epochs,), and the magnitude after each of them (epochs, depth, H, W).
        moved: (epochs, depth), how much the filters changed; None without a history.
    """

    magnitude: Floats
    kernels: list[Floats]
    energy: Floats
    history: tuple[Ints, Floats] | Missing
    moved: Floats | None


@dataclass(frozen=True)
class WorstError:
    """A wrongly classified picture whose predicted class has a high probability.

    Attributes:
        place: Position in `Results.everything`.
        saliency: (H, W), how much each token adds to the logit of the predicted class; None except for the very worst.
    """

    place: int
    saliency: Floats | None


@dataclass(frozen=True)
class OfPictures:
    """The answers for which the pictures themselves are needed.

    Attributes:
        images: Returns the (N, height, width) grey levels, or (N, height, width, 3) colours, of N positions in
            `Results.everything`.
        leaks: Share of each set's pictures that have a near twin in training.
        overlap: Which classes overlap.
        frequencies: (pairs, H, W // 2 + 1), how well a frequency separates the classes of each pair in `overlap`.
        field: (depth + 1, height, width) effective receptive field, and its radius (depth + 1,).
        worst: The worst errors, worst first.
        doubts: Training pictures whose label is to be checked; None if the run did not keep what that takes.
        worst_person: For whom the net works worst; None if nobody is known to be.
        enrolled: What it brings the unseen people to show pictures first.
    """

    images: Pixels
    leaks: dict[str, float]
    overlap: Overlap
    frequencies: Floats
    field: tuple[Floats, Floats]
    worst: list[WorstError]
    doubts: Doubts | None
    worst_person: WorstPerson | None
    enrolled: list[PersonCurve]


@dataclass(frozen=True)
class Analysis:
    """All answers about one run. The modules of `evaluation` explain them.

    Attributes:
        pictures: The answers for which the pictures are needed.
        maps: The embedding maps.
        filters: The properties of the filters.
    """

    pictures: OfPictures | Missing
    maps: Maps | Missing
    filters: Filters


def analyse(run: Run) -> Analysis:
    """Computes all answers that are available for a run."""
    net = run.checkpoint.net()
    log.info("%s: comparing its pictures, classes and errors", run.folder.path)
    pictures = _of_pictures(run, net)
    images = None if isinstance(pictures, Missing) else pictures.images
    log.info("drawing the maps of the pictures, and the filters")
    return Analysis(pictures=pictures, maps=_maps(run.results.everything, images), filters=_filters(run, net))


def _of_pictures(run: Run, net: GFNet) -> OfPictures | Missing:
    found = _collection(run)
    if isinstance(found, Missing):
        return found
    everything = run.results.everything
    row = {picture.path: place for picture, place in zip(found.pictures, found.rows.tolist(), strict=True)}
    rows = np.array([row[picture.path] for picture in everything.pictures])

    def images(places: npt.ArrayLike) -> Images:
        return np.asarray(found.images[rows[np.asarray(places, np.int64)]])

    mirrored = in_mirror(net, images, run.results.calibration)
    overlap = _overlap(run.results, images)
    wrong = np.flatnonzero(everything.predictions != everything.labels)
    return OfPictures(
        images=images,
        leaks=_leaks(found),
        overlap=overlap,
        frequencies=_frequencies(net, everything, images, overlap.pairs),
        field=_field(net, everything, images),
        worst=_worst(net, run.results, images),
        doubts=doubts(run, net, found),
        worst_person=worst_of(run.results, net, found, images, mirrored, _surest(run.results, wrong)),
        enrolled=curve_of(run.results, mirrored),
    )


def in_mirror(net: GFNet, images: Pixels, calibration: Calibration) -> InMirror | None:
    """What the net says of the mirror images of pictures, for those that are asked for.

    None if it looks at each picture in a mirror by itself (`mirrored_views`): then nobody need be put in one.
    """
    if net.mirrored_views:
        return None

    def outputs(places: Ints) -> Seen:
        mirrored = channels_first(torch.from_numpy(mirror_images(images(places))))
        with torch.inference_mode():
            parts = [net.features(mirrored[start : start + _AT_ONCE]) for start in range(0, len(places), _AT_ONCE)]
            features = torch.cat(parts)
            logits = net.head(features)
        return seen(calibration, logits.numpy(), features.numpy())

    return outputs


def _collection(run: Run) -> Collection | Missing:
    """The run's pictures, decoded."""
    again = "Put them back, and run gfnet report again."
    try:
        found = collect(run.results.root, canvas=run.checkpoint.canvas, splits=str(run.folder.splits), skip_broken=True)
    except UserError as error:
        return Missing(f"The pictures are unavailable: {error}. {again}")
    there = {picture.path for picture in found.pictures}
    gone = [picture.path for picture in run.results.everything.pictures if picture.path not in there]
    if gone:
        return Missing(
            f"{len(gone):,} of the evaluated pictures cannot be read any more: {', '.join(gone[:3])}. {again}"
        )
    return found


def _leaks(found: Collection) -> dict[str, float]:
    splits = np.array([picture.split for picture in found.pictures])
    trained, kinds = np.flatnonzero(splits == "train"), kinds_of(found.pictures)
    return {
        split: leak_share(found.images, found.rows, np.flatnonzero(splits == split), trained, kinds).share
        for split in EVALUATED
        if (splits == split).any()
    }


def _sample(count: int, most: int) -> Ints:
    """Random positions below `count`, at most `most`, in ascending order."""
    everyone = np.arange(count)
    return np.sort(np.random.default_rng(0).choice(everyone, most, replace=False)) if count > most else everyone


def _overlap(results: Results, images: Pixels) -> Overlap:
    everything = results.everything
    places = _sample(len(everything.labels), _NEIGHBOURS)
    labels, groups = everything.labels[places], [everything.pictures[place].group for place in places]
    classes = everything.logits.shape[1]
    pixels, features = (
        neighbour_confusion(points, labels, groups, classes)
        for points in (pixel_space(images(places)), everything.features[places])
    )
    pairs = confused_pairs(everything.labels, everything.predictions, classes, _PAIRS)
    return Overlap(
        explanation=explain(labels, everything.logits[places], pixels, features),
        pairs=pairs,
        pixels=pair_overlap(pixels.matrix),
        features=pair_overlap(features.matrix),
        examples=[_examples(results, pair) for pair in pairs],
        compared=len(places),
    )


def _examples(results: Results, pair: ConfusedPair, most: int = 6) -> list[int]:
    labels, predictions = results.everything.labels, results.everything.predictions
    mistaken = ((labels == pair.a) & (predictions == pair.b)) | ((labels == pair.b) & (predictions == pair.a))
    return _surest(results, np.flatnonzero(mistaken))[:most]


def _surest(results: Results, places: Ints) -> list[int]:
    """The pictures with the most probable predictions first, one per group, class and prediction before repetitions.

    Otherwise six frames of the same clip could fill the list with the same error.
    """
    everything = results.everything
    confidence = results.probabilities(everything).max(1)
    first: list[int] = []
    again: list[int] = []
    seen = set()
    for place in places[np.argsort(-confidence[places], kind="stable")].tolist():
        group = everything.pictures[place].group
        kind = group or place, everything.labels[place], everything.predictions[place]
        (again if kind in seen else first).append(place)
        seen.add(kind)
    return first + again


def _maps(everything: SetResults, images: Pixels | None) -> Maps | Missing:
    places = _sample(len(everything.labels), _MAPPED)
    try:
        features = umap_map(principal_components(everything.features[places], 50))
        pixels = None if images is None else umap_map(pixel_space(images(places)))
    except UserError as error:
        return Missing(str(error))
    return Maps(places, pixels, features)


def _filters(run: Run, net: GFNet) -> Filters:
    shown = []
    for of_block in kernels(net):
        energy = np.square(of_block).sum((1, 2))
        shown.append(of_block[np.argsort(-energy, kind="stable")[:_KERNELS]])
    file = run.folder.filters
    history: tuple[Ints, Floats] | Missing = Missing(
        f"{file} is not there: this run was trained without TensorBoard, or by an older version."
    )
    moved = None
    if file.is_file():
        kept = read_arrays(file)
        history = kept["epochs"], kept["magnitude"]
        moved = movement(history[1])
    return Filters(
        magnitude=magnitude(net),
        kernels=shown,
        energy=energy_by_radius(net),
        history=history,
        moved=moved,
    )


def _frequencies(net: GFNet, everything: SetResults, images: Pixels, pairs: Sequence[ConfusedPair]) -> Floats:
    places = np.concatenate(
        [np.flatnonzero(everything.labels == label)[:_PER_CLASS] for label in sorted({c for p in pairs for c in p[:2]})]
        or [np.zeros(0, np.int64)]
    )
    labels = torch.from_numpy(everything.labels[places])
    return discriminative_frequencies(net, _batch(images(places)), labels, [pair[:2] for pair in pairs])


def _field(net: GFNet, everything: SetResults, images: Pixels) -> tuple[Floats, Floats]:
    field = effective_receptive_field(net, _batch(images(_sample(len(everything.labels), _FIELD))))
    return field, receptive_radius(field)


def _worst(net: GFNet, results: Results, images: Pixels) -> list[WorstError]:
    predictions = results.everything.predictions
    places = _surest(results, np.flatnonzero(predictions != results.everything.labels))[:_WORST]
    explained = places[:_EXPLAINED]
    maps: Iterable[Floats] = ()
    if explained:
        by_pixel = integrated_gradients(net, _batch(images(explained)), torch.from_numpy(predictions[explained]))
        rows, columns = net.map_size  # summed over the patch of each token: pixel by pixel it is hard to read
        maps = by_pixel.reshape(len(explained), rows, -1, columns, by_pixel.shape[2] // columns).sum((2, 4))
    saliency = [*maps, *[None] * (len(places) - len(explained))]
    return [WorstError(place, each) for place, each in zip(places, saliency, strict=True)]


def _batch(images: Images) -> Tensor:
    return channels_first(torch.from_numpy(images))
