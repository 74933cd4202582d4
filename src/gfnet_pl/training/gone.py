"""Options of earlier versions that no longer exist."""

from typing import Any

# By dotted key, with the value that switches each off.
GONE = {
    "model.decay_matrices_only": False,
    "data.augment.shear": 0,
    "data.augment.blur": 0,
    "data.augment.noise": 0,
    "data.augment.gamma": 0,
    "data.augment.mixup": 0,
    "data.augment.cutmix": 0,
    "data.predict_paths": None,
}
RENAMED = {"data.emphasis_from": "emphasis_from"}


def what_became_of(key: str) -> str:
    """The end of the error message about an option of an earlier version: its new name, or that it no longer exists.

    It is "" for any other option.
    """
    if key in RENAMED:
        return f"; it is called {RENAMED[key]} now"
    return "; it is gone: remove it" if key in GONE else ""


def leave_out(config: dict[str, Any]) -> None:
    """Takes the options that are gone out of a config where they are off, as in every config that a run has written."""
    for key, off in {**GONE, **dict.fromkeys(RENAMED)}.items():
        *groups, name = key.split(".")
        held: Any = config
        for group in groups:
            held = held.get(group) if isinstance(held, dict) else None
        if isinstance(held, dict) and name in held and held[name] == off:
            del held[name]
