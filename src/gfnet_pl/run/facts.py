"""What was trained, on which data and how, in words: for the report and for the model card."""

from pathlib import Path
from typing import Any

from gfnet_pl.model.arguments import in_words
from gfnet_pl.model.pretrained import SMALL
from gfnet_pl.run.folder import BEST, LAST
from gfnet_pl.run.run import Run

_CHOSEN_BY = {
    "accuracy": "the one with the highest accuracy on validation pictures",
    "last": "the last one, as so few validation pictures cannot choose",
}


def checkpoint_words(run: Run) -> str:
    """Which checkpoint was tested, and of which epoch."""
    name, epochs = run.checkpoint.path.name, run.checkpoint.epochs
    trained = run.trained_epochs
    if name == BEST:
        best = run.sessions[-1].get("best") if run.sessions else None
        why = _CHOSEN_BY[best.get("by", "accuracy")] if best else "the best one on validation pictures"
        return f"{name}: epoch {epochs} of {trained}, {why}"
    return f"{name}: after {epochs} epochs" + ("" if name == LAST else f" of {trained}")


def facts(run: Run) -> list[tuple[str, str]]:
    """What was trained, on which data and how, as (name, text)."""
    checkpoint, session = run.checkpoint, run.sessions[-1] if run.sessions else {}
    settings = checkpoint.settings
    counts = ", ".join(f"{count:,} {split}" for split, count in run.counts.items())
    parameters = sum(each.numel() for each in checkpoint.net().parameters())
    # A run that goes on from another, or from its own beginning, has that one's file.
    splits = settings.get("data.splits")
    drawn = f"as in {Path(splits).name}" if splits else f"drawn by {settings.get('data.split_by')}"
    if settings.get("data.fold"):
        drawn = f"drawn as fold {settings['data.fold']} of {settings['data.folds']}"
    stem = "" if settings.get("model.stem") in (None, "patch") else f" (stem {settings['model.stem']})"
    rule = settings.get("data.group_by") or ("the signer" if run.results.root is None else "none, or the manifest's")
    augment = {
        key.removeprefix("data.augment."): value
        for key, value in settings.items()
        if key.startswith("data.augment.") and value
    }
    versions = ", ".join(f"{name} {session[name]}" for name in ("gfnet_pl", "torch", "lightning") if name in session)
    return [
        ("checkpoint", checkpoint_words(run)),
        ("data", run.results.source),
        ("splits", f"{counts}; {drawn}; groups: {rule}"),
        *([("all folds", f"{run.pooled.sentence}.")] if run.pooled else []),
        ("classes", f"{len(run.results.classes)}: {', '.join(run.results.classes)}"),
        (
            "net",
            f"{settings.get('model.variant') or 'GFNet'}, {parameters:,} parameters: "
            f"dim {in_words(settings['model.dim'])}, depth {in_words(settings['model.depth'])}, patches of "
            f"{settings['model.patch_size']} pixels{stem}, filters {settings['model.filter_size']}, dropout "
            f"{settings['model.dropout']}, drop path {settings['model.drop_path']}",
        ),
        (
            "recipe",
            f"AdamW {settings['model.lr']:g}, weight decay {settings['model.weight_decay']:g}, "
            f"{settings['model.warmup_epochs']:g} epochs of warm-up, cosine; batch {settings.get('data.batch_size')}, "
            f"{settings.get('trainer.max_epochs')} epochs; {settings.get('trainer.precision')}"
            + (f"; sharpness-aware, radius {rho:g}" if (rho := settings.get("model.sam_rho")) else "")
            + ("; five views of each picture except in training" if settings.get("model.shifted_views") else "")
            + ("; seen in a mirror where that is likelier" if settings.get("model.mirrored_views") else ""),
        ),
        *([("started from", start)] if (start := _start(settings)) else []),
        ("augmentation", ", ".join(f"{name} {value:g}" for name, value in augment.items()) or "none"),
        ("balance", _balance(settings)),
        ("seed", str(session.get("seed", "not known"))),
        ("made with", f"{versions}; commit {session.get('commit') or 'not known'}" if session else "not known"),
        ("hardware", f"{session.get('devices')}; {session.get('cpu')}" if session else "not known"),
    ]


def _start(settings: dict[str, Any]) -> str:
    """The weights that a new net began with, "" for random ones. A file's folder is private."""
    pretrained = settings.get("model.pretrained")
    if pretrained == SMALL:
        return "weights that come with gfnet_pl, trained on rendered hands, glyphs and contours"
    return f"the published weights {Path(pretrained).name}" if pretrained else ""


def _balance(settings: dict[str, Any]) -> str:
    emphasis = settings.get("data.class_emphasis") or settings.get("data.emphasis_from")
    drawn = "every class equally often" if settings.get("data.balanced") else "every picture equally often"
    return f"{drawn}{f', emphasis {emphasis}' if emphasis else ''}"
