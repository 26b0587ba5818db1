"""Parameters, values and sums of money as the report for people names them."""

import math
from collections.abc import Iterable
from typing import Any

from factory.spec import Parameter, Range, TuneSpec
from factory.tune.space import short_name, value_in_words


def column_names(paths: Iterable[str]) -> dict[str, str]:
    """Path of a spec field -> its short name, or the whole path where others share that name."""
    named = {path: short_name(path) for path in paths}
    shared = list(named.values())
    return {path: path if shared.count(name) > 1 else name for path, name in named.items()}


def parameter_in_words(parameter: Parameter) -> str:
    """What was searched, e.g. "1, 2, 4" or "1 to 4 in steps of 0.5"."""
    if not isinstance(parameter, Range):
        return ", ".join(value_in_words(value) for value in parameter)
    words = f"{parameter.low:g} to {parameter.high:g}"
    if parameter.step is not None:
        return f"{words} in steps of {parameter.step:g}"
    return f"{words}, drawn on a log scale" if parameter.log else words


def default_in_words(spec: TuneSpec, path: str) -> str:
    """What the spec has at `path` outside of its space; empty if it has no such field."""
    place: Any = spec.model_dump(mode="json")
    for part in path.split("."):
        if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict) and part in place:
            place = place[part]
        else:
            return ""
    return value_in_words(place)


def money(amount: float) -> str:
    """With two digits that count, at least: e.g. "1,203.50", "0.00042"."""
    if amount == 0:
        return "0"
    decimals = max(2, 1 - math.floor(math.log10(abs(amount))))
    return f"{amount:,.{decimals}f}"
