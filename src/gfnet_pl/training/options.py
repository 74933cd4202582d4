"""What the words of a command and its configs mean: names that look like numbers or switches, and `~` in paths.

And what they may import: a config may come from anybody, and a class path in it is code that runs.
"""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import get_loader, set_loader, set_parsing_settings

from gfnet_pl.data.collection import named_root
from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import refuse_url
from gfnet_pl.training.gone import leave_out

_PATHS = (
    *("data.root", "data.splits", "data.group_table"),
    *("model.pretrained", "ckpt_path", "emphasis_from"),
)
IMPORTS = "GFNET_IMPORTS"  # the variable in which a user names more modules
_NOT_IMPORTED = ["*", "lightning.pytorch.callbacks.LambdaCallback", "lightning.pytorch.callbacks.lambda_function"]
_NAMES = {"stage", "classes", *(key.rpartition(".")[2] for key in _PATHS)}  # the last words of their keys
_TEXT, _FLOAT, _NULL, _TIME = (f"tag:yaml.org,2002:{name}" for name in ("str", "float", "null", "timestamp"))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads every key, and the values that are names and paths, as text: YAML reads `1` as a number, `no` as False."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        names = set() if getattr(node, "of_classes", False) else _NAMES  # a class may be called root
        for key, value in node.value:
            key.tag = _TEXT
            value.of_classes = key.value == "class_emphasis"
            if key.value in names:
                for name in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(name, yaml.ScalarNode) and (name is not value or name.tag != _NULL):
                        name.tag = _TEXT
        mapping: dict[str, Any] = super().construct_mapping(node, deep)
        return mapping


# As jsonargparse reads them: 1e-3 is a number, and a date is text.
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_constructor(_TIME, yaml.SafeLoader.construct_yaml_str)


def allow_imports() -> None:
    """Lets configs and options name classes of Lightning, and of the modules in the variable `IMPORTS`, and no others.

    Raises:
        UserError: The variable does not hold names of modules.
    """
    more = [name.strip() for name in os.environ.get(IMPORTS, "").split(",") if name.strip()]
    try:
        set_parsing_settings(import_path_denylist=_NOT_IMPORTED, import_path_allowlist=["lightning", *more])
    except ValueError as error:
        raise UserError(f"{IMPORTS}: {one_line(error)}") from None


def read_names_as_text() -> None:
    """Lets configs and options name classes, stages and paths as they are written, also `1` and `no`.

    A config may still have an option that is gone, if it is off there.
    """
    usual = get_loader("yaml")
    if getattr(usual, "__module__", None) == __name__:  # in this process already
        return

    def load(text: str) -> Any:  # noqa: ANN401
        value = usual(text)
        if isinstance(value, dict):
            value = yaml.load(text, Loader=_Loader)
            leave_out(value)
        return value

    set_loader("yaml", load, exceptions=(yaml.YAMLError,))


def names_as_text(words: list[str]) -> list[str]:
    """Quotes the names in a list of classes among the words of a command, as `read_names_as_text` does in configs."""
    out, rest = [], iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--data.classes", "--model.classes"):
            value = value if equals else next(rest, "")
            try:
                names = yaml.load(value, Loader=yaml.BaseLoader)  # everything is text
            except yaml.YAMLError:
                names = None  # the parser says what is wrong
            word = f"{option}={json.dumps(names) if isinstance(names, list) else value}"
        out.append(word)
    return out


def refuse_urls(settings: Mapping[str, Any]) -> None:
    """Refuses URLs in the paths among `settings`, by dotted key.

    Raises:
        UserError: There is one.
    """
    for key in _PATHS:
        value = settings.get(key)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str):
                refuse_url(key, path)


def find_home(settings: MutableMapping[str, Any]) -> None:
    """Replaces `~` in the paths among `settings`, by dotted key, by the home folder, and named data by their folder."""
    for key in _PATHS:
        value = settings.get(key)
        if isinstance(value, str):
            settings[key] = os.path.expanduser(value)
        elif isinstance(value, list):
            settings[key] = [os.path.expanduser(path) if isinstance(path, str) else path for path in value]
    if isinstance(root := settings.get("data.root"), str):
        settings["data.root"] = named_root(root)
