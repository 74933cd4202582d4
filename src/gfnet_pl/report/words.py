"""The texts of a report: its headline, and what was trained on which data."""

from typing import Any

from gfnet_pl.run.run import Run


def headline(run: Run) -> str:
    """A sentence that says which figure to trust."""
    figures = run.results.figures
    if "unseen" in figures:
        return "The figure to trust is that of unseen: its groups are in no other split. " + gap_words(run)
    return (
        "No set holds groups that training never saw, so nothing here says how good the net is on new people: "
        "train with --data.group_by and --data.unseen_groups to know."
    )


def gap_words(run: Run) -> str:
    """A sentence about the difference in accuracy between known and unknown groups."""
    distance = run.results.gap
    if distance is None:
        return "There is no gap to state: it takes an unseen set, and a holdout or validation set of known groups."
    return distance.sentence[0].upper() + distance.sentence[1:] + "."


def facts(run: Run) -> list[tuple[str, str]]:
    """What was trained, on which data and how, as (name, text)."""
    checkpoint, session = run.checkpoint, run.sessions[-1] if run.sessions else {}
    settings = checkpoint.settings
    counts = ", ".join(f"{count:,} {split}" for split, count in run.counts.items())
    weights = checkpoint.weights
    parameters = sum(value.numel() for name, value in weights.items() if name not in ("net.mean", "net.std"))
    drawn = "a provided file" if settings.get("data.splits") else f"by {settings.get('data.split_by')}"
    rule = settings.get("data.group_by") or ("the signer" if run.results.root is None else "none, or the manifest's")
    augment = {
        key.removeprefix("data.augment."): value
        for key, value in settings.items()
        if key.startswith("data.augment.") and value
    }
    versions = ", ".join(f"{name} {session[name]}" for name in ("gfnet_pl", "torch", "lightning") if name in session)
    return [
        ("data", run.results.source),
        ("splits", f"{counts}; drawn {drawn}; groups: {rule}"),
        ("classes", f"{len(run.results.classes)}: {', '.join(run.results.classes)}"),
        (
            "net",
            f"GFNet, {parameters:,} parameters: dim {settings['model.dim']}, depth {settings['model.depth']}, patches "
            f"of {settings['model.patch_size']} pixels, filters {settings['model.filter_size']}, dropout "
            f"{settings['model.dropout']}, drop path {settings['model.drop_path']}",
        ),
        (
            "recipe",
            f"AdamW {settings['model.lr']:g}, weight decay {settings['model.weight_decay']:g}, "
            f"{settings['model.warmup_epochs']:g} epochs of warm-up, cosine; batch {settings.get('data.batch_size')}, "
            f"{checkpoint.epochs} of {settings.get('trainer.max_epochs')} epochs; {settings.get('trainer.precision')}",
        ),
        ("augmentation", ", ".join(f"{name} {value:g}" for name, value in augment.items()) or "none"),
        ("balance", _balance(settings)),
        ("seed", str(session.get("seed", "not known"))),
        ("made with", f"{versions}; commit {session.get('commit') or 'not known'}" if session else "not known"),
        ("hardware", f"{session.get('devices')}; {session.get('cpu')}" if session else "not known"),
    ]


def _balance(settings: dict[str, Any]) -> str:
    emphasis = settings.get("data.class_emphasis") or settings.get("data.emphasis_from")
    drawn = "every class equally often" if settings.get("data.balanced") else "every picture equally often"
    return f"{drawn}{f', emphasis {emphasis}' if emphasis else ''}"
