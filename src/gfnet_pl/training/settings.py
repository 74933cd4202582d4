"""The settings of fit, validate and test: what is wrong with them, and what follows from others."""

import os
from argparse import ArgumentError
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from gfnet_pl.errors import LARGEST_SEED, UserError, check_range
from gfnet_pl.model.arguments import VARIANTS, with_variant
from gfnet_pl.run.checkpoint import Checkpoint
from gfnet_pl.run.confusion import confusion_emphasis
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.training.mistakes import of_parser
from gfnet_pl.training.options import find_home, refuse_urls
from gfnet_pl.training.trainer_options import check_trainer


def check_said(said: dict[str, Any]) -> None:
    """Refuses what cannot be meant in the settings that a user gave, by dotted key, and puts the home folder for `~`.

    Raises:
        UserError: A text is empty, a path is a URL, or two settings contradict each other.
    """
    for key, value in said.items():
        if isinstance(value, str) and not value.strip():
            raise UserError(f"{key} is empty: is the variable that it comes from unset? Give a value, or drop it")
    refuse_urls(said)
    find_home(said)
    if "data.image_size" in said and said["data.image_size"] != said.get("model.image_size"):
        raise UserError("data.image_size follows model.image_size: give that one")
    if said.get("model.pretrained") and said.get("model.classes"):
        raise UserError("model.pretrained starts a net for the data's classes: drop model.classes")


def take_emphasis(said: dict[str, Any]) -> bool:
    """Replaces `emphasis_from` in `said` by the `data.class_emphasis` that follows from that run's confusion matrix.

    Returns:
        Whether `emphasis_from` was given.
    """
    if not (run := said.pop("emphasis_from", None)):
        return False
    if said.get("data.class_emphasis"):
        raise UserError("emphasis_from and data.class_emphasis say the same thing in two ways: drop one")
    said["data.class_emphasis"] = confusion_emphasis(RunFolder(Path(run)))
    return True


def take_variant(said: dict[str, Any]) -> dict[str, Any]:
    """Adds to `said` the settings that follow from `model.variant`, and returns these.

    Raises:
        UserError: Another setting in `said` contradicts them.
    """
    variant = said.get("model.variant")
    own = {key.removeprefix("model."): value for key, value in said.items() if key.startswith("model.")}
    try:
        settled = with_variant(variant, own)
    except ValueError as error:
        raise UserError(f"model.{error}") from None
    of_variant = {f"model.{name}": settled[name] for name in (VARIANTS[variant] if variant else ())}
    said.update(of_variant)
    return of_variant


def check_types(
    parser: LightningArgumentParser, settings: dict[str, Any], checkpoint: Checkpoint, known: list[str]
) -> None:
    """Raises UserError if a setting of a checkpoint is of another type than its option: defaults are not checked."""
    given: Any = Namespace()  # type: ignore[no-untyped-call]
    for key, value in settings.items():
        given[key] = value
    try:
        parser.parse_object(given, defaults=False)
    except ArgumentError as error:
        raise UserError(f"{checkpoint.path}: {of_parser(error, known)}") from None


def settle(config: Any, said: dict[str, Any]) -> None:  # noqa: ANN401  (a Namespace, whose items have no types)
    """Checks the whole settings of a command, and fills in those that follow from others.

    Args:
        config: The settings; they are changed.
        said: Those that the user gave, by dotted key.

    Raises:
        UserError: One is out of its range, or contradicts another.
    """
    for section in ("model", "data", "trainer"):
        if not isinstance(config[section], Namespace):
            raise UserError(f"{section} is {config[section]}: it must be a mapping; give it keys, or drop it")
    if not isinstance(config["seed_everything"], bool):
        check_range("seed_everything", config["seed_everything"], least=0, most=LARGEST_SEED)
    check_trainer(config["trainer"])
    find_home(config)
    data, model = config["data"], config["model"]
    for key in ("root", "group_table"):  # the run must be found to be of these data from any folder
        if data[key]:
            data[key] = os.path.abspath(os.path.expanduser(data[key]))
    data["image_size"] = model["image_size"]
    model["in_channels"] = 3 if data["colour"] else 1
    if said.get("model.in_channels", model["in_channels"]) != model["in_channels"]:
        raise UserError("model.in_channels follows data.colour: give that one")
