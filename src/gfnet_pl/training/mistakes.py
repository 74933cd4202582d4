"""What the parser and Lightning raise for a reason that a user can mend, told in one line that names the option.

jsonargparse lists every type that a value could have had, over a dozen lines. Lightning raises errors of all classes
for settings that it refuses. What tells them from faults is where they are raised: by a `raise` of Lightning's own, by
the Trainer's constructor, or in something that the command added to the Trainer.
"""

import linecache
import re
import traceback
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from gfnet_pl.errors import nearest, one_line
from gfnet_pl.training.gone import what_became_of
from gfnet_pl.training.options import IMPORTS
from gfnet_pl.training.trainer_options import BY_LIGHTNING, CHECKED, FIXED

_REFUSE_BY_RAISE = ("lightning", "lightning_utilities", "lightning_fabric", "jsonargparse")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "collections.abc.Iterable": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}


def of_parser(error: Exception, known: list[str]) -> str:
    """The parser's message in one line.

    Args:
        error: What jsonargparse raised.
        known: All options, for a suggestion where one is unknown.
    """
    text = str(error)
    if unknown := re.search(r"unrecognized arguments: (\S+)|does not accept option '(\S+)'", text):
        key = (unknown[1] or unknown[2]).removeprefix("--").partition("=")[0]
        return f"unknown option {key}{what_became_of(key) or nearest(key, known)}"
    keys = re.findall(r'Parser key "([^"]+)"', text)
    key = f"{keys[-1]}: " if keys else ""
    if refused := re.search(r"Importing '([^']+)' is not allowed", text):
        module = refused[1].rpartition(".")[0]
        return (
            f"{key}{refused[1]} is not imported: a config may only name classes of Lightning, and not "
            f"LambdaCallback; if you trust it, set {IMPORTS}={module}"
        )
    if problem := re.search(r"class_path '([^']+)':\s+(.+?)(?=\n\s*- |\n\s*Given value|\Z)", text, re.S):
        return f"{key}{problem[1]}: {' '.join(problem[2].split())}"
    own = [line for line in re.findall(r"^\s*- (.+)$", text, re.M) if not line.startswith(("Expected a", "Does not"))]
    if own and (given := re.search(r"Given value: \[?Namespace\(class_path='([^']+)'", text)):
        return f"{key}{given[1]}: {own[0]}"
    if nested := re.search(r"Expected a (\S+ \S+)\. Got value: (.*)$", text, re.M):
        expected, value = [nested[1]], nested[2]
    else:
        expected = re.findall(r"Expected a (?!path but)(.+)$", text, re.M)
        value = text.rpartition("Given value: ")[2]
    if expected and keys:
        words = dict.fromkeys(map(_in_words, expected))
        value = {"None": "null", "": "empty"}.get(value, " ".join(value.split())[:80])
        return f"{keys[-1]} is {value}: it must be {' or '.join(words)}"
    if keys and "Unable to load config" in text:
        return f"{keys[-1]}: it must be a mapping, or a file that holds one"
    return one_line(error)


def of_lightning(error: Exception, settings: Mapping[str, Any]) -> str | None:
    """Why Lightning refuses these settings, in one line; None if the error is no refusal.

    Args:
        error: What was raised, with its traceback.
        settings: All settings of the Trainer by name.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    *_, (last, line) = traceback.walk_tb(error.__traceback__)
    room = last.f_globals.get("__name__", "").partition(".")[0]
    statement = linecache.getline(last.f_code.co_filename, line).lstrip()
    refused = room in _REFUSE_BY_RAISE and statement.startswith("raise ")
    ours = [place for place, frame in enumerate(frames) if frame.f_globals.get("__name__", "").startswith("gfnet_pl.")]
    below = frames[ours[-1] :] if ours else frames  # what was called last by a function of this package
    refused |= any(frame.f_code.co_qualname == "Trainer.__init__" for frame in below)
    added = {path.rpartition(".")[2] for path in re.findall(r"class_path='([^']+)'", str(settings))}
    by = next((name for frame in below if (name := type(frame.f_locals.get("self")).__name__) in added), None)
    if not (refused or by or isinstance(error, MisconfigurationException)):
        return None
    if "Does not validate" in str(error):
        return of_parser(error, [])
    message = one_line(error)
    key = next((name for name in sorted({*CHECKED, *FIXED, *BY_LIGHTNING}) if _names(message, name)), None)
    return f"trainer{f'.{key}' if key else ''}: {f'{by}: ' if by else ''}{message}"


def _in_words(expected: str) -> str:
    if literal := re.match(r"typing\.Literal\[(.*)\]", expected):
        return literal[1].replace("'", "").replace(", ", " or ")
    if several := re.match(r"tuple with (\d+) elements", expected):
        return f"a list of {several[1]}"
    if expected.startswith("dot import path"):
        return "the path of a class"
    name = re.sub(r"<class '(.*)'>|(\[.*)", r"\1", expected)
    return _WORDS.get(name, name)


def _names(message: str, option: str) -> bool:
    """Whether the message is about an option: in quotes, or with its value. Some options are also plain words."""
    return re.search(rf"[`'(]{option}\b|\b{option}=", message) is not None
