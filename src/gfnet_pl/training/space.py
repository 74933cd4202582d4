"""What `gfnet sweep` tries: a YAML file of keys with values or ranges -> Optuna's distributions."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from gfnet_pl.errors import UserError, one_line
from gfnet_pl.files import reading


def read_space(file: Path) -> dict[str, Any]:
    """Reads what to try: a YAML file of dotted keys, each with a list of values, or with `low` and `high`.

    Between two whole numbers, whole numbers are tried; `step` is the distance of two of them. With `log: true`, as many
    are tried between 1 and 10 as between 10 and 100.

    Returns:
        Optuna's distribution of each key.

    Raises:
        UserError: The file cannot be read, or a range is impossible.
    """
    if not file.is_file():
        raise UserError(f"--space: no file {file}")
    with reading(file, "write dotted keys, each with a list of values, or with low and high"):
        try:
            text = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(one_line(error)) from None
        if not isinstance(text, dict) or not text or not all(isinstance(key, str) for key in text):
            raise ValueError("it holds no keys with values to try")
    return {key: _distribution(f"{file}: {key}", values) for key, values in text.items()}


def _distribution(where: str, values: Any) -> Any:  # noqa: ANN401
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        if not values or not all(each is None or isinstance(each, bool | int | float | str) for each in values):
            raise UserError(f"{where} must be a list of numbers, words, true, false or null")
        return CategoricalDistribution(values)
    if not isinstance(values, Mapping) or not {"low", "high"} <= values.keys() <= {"low", "high", "log", "step"}:
        raise UserError(f"{where} must be a list of values, or low and high, and with them log or step")
    numbers = [values[key] for key in ("low", "high", "step") if key in values]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise UserError(f"{where}: low, high and step must be numbers; YAML needs 1.0e-3 for 1e-3")
    kind = IntDistribution if all(isinstance(each, int) for each in numbers) else FloatDistribution
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None


def ends(space: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    """The first values and lower ends of a space, or the last ones and upper ends, by key."""
    return {
        key: each.choices[-1 if last else 0] if hasattr(each, "choices") else each.high if last else each.low
        for key, each in space.items()
    }


def logarithmic(space: Mapping[str, Any]) -> set[str]:
    """The keys of which as many values are tried between 1 and 10 as between 10 and 100."""
    return {key for key, each in space.items() if getattr(each, "log", False)}
