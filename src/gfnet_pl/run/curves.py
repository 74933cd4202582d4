"""The curves of training in a run's TensorBoard events: under which tags they are written, and how they are read."""

from typing import Any

from gfnet_pl.run.folder import RunFolder

Curve = list[tuple[float, float]]

# TensorBoard sorts tags by name and opens the first two groups. So the curves that everybody looks at are in groups
# that sort first. Version 0.1.0 wrote the names themselves.
TAGS = {
    "train/accuracy": "accuracy/train",
    "val/accuracy": "accuracy/val",
    "train/epoch_loss": "loss/train",
    "val/loss": "loss/val",
}
_CURVES = ("train/accuracy", "val/accuracy", "train/loss", "val/loss", "train/lr", "train/images_per_second")


def read_curves(folder: RunFolder) -> dict[str, Curve]:
    """Reads the curves of training from the TensorBoard events.

    Returns:
        (epoch, value) points by name, not by tag; epochs count from 1. For `train/loss` and `train/lr`, which are
        logged by step, they have fractions. Where a part of the training was repeated, its last values count.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder.path), size_guidance={"scalars": 0}).Reload()
    known = set(events.Tags()["scalars"])

    def logged(name: str) -> list[Any]:
        both = [event for tag in {name, TAGS.get(name, name)} & known for event in events.Scalars(tag)]
        return sorted(both, key=lambda event: event.wall_time)

    # Version 0.1.0 also logged what `gfnet validate` found, as epoch 0. No epoch of training ends after that.
    ends = {event.step: event.wall_time for event in logged("train/accuracy")}
    curves = {}
    for name in _CURVES:
        found = logged(name)
        if name.startswith("val/") and ends:
            found = [event for event in found if event.wall_time <= ends.get(event.step, 0)]
        points = {event.step: event.value for event in found}
        if points:
            curves[name] = [(step + 1.0, points[step]) for step in sorted(points)]
    last = max((curves[name][-1][0] for name in ("train/accuracy", "val/accuracy") if name in curves), default=0.0)
    for name in ("train/loss", "train/lr"):  # their x values are optimizer steps
        if name in curves and last:
            steps = curves[name][-1][0]
            curves[name] = [(step / steps * last, value) for step, value in curves[name]]
    return curves
