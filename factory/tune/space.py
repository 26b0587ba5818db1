"""The search space: what its parameters may be, and a spec with some of them set."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from factory.spec import Parameter, Range, SpecError, TuneSpec, set_at, validate

Config = dict[str, Any]
"""Path of a spec field -> its value: one configuration of a search."""
_DECIMALS = 9
"""Digits of a number that lies whole steps above another; floats are exact to about 15."""


def values(parameter: Parameter) -> tuple[Any, ...] | None:
    """All that `parameter` may be; None: any number between two."""
    if not isinstance(parameter, Range):
        return parameter
    if parameter.step is None:
        return None
    steps = math.floor((parameter.high - parameter.low) / parameter.step + 10**-_DECIMALS)
    return tuple(snap(parameter, parameter.low + k * parameter.step) for k in range(steps + 1))


def corners(parameter: Parameter) -> tuple[Any, ...]:
    """All that `parameter` may be, or the two ends between which it lies."""
    found = values(parameter)
    if found is not None:
        return found
    assert isinstance(parameter, Range)
    return (parameter.low, parameter.high)


def snap(parameter: Range, number: float) -> float | int:
    """The nearest number of the range; whole ones as int where all of them are."""
    if parameter.step is None:
        return number
    steps = round((number - parameter.low) / parameter.step)
    near = round(parameter.low + steps * parameter.step, _DECIMALS)
    is_whole = all(float(end).is_integer() for end in (parameter.low, parameter.step))
    return int(near) if is_whole else near


def encode(parameter: Parameter) -> tuple[Any, ...]:
    """The values of a list as searchers take them: numbers and words, or all as JSON."""
    assert not isinstance(parameter, Range)
    if all(isinstance(value, bool | int | float | str) for value in parameter):
        return parameter
    return tuple(json.dumps(value, sort_keys=True) for value in parameter)


def decode(space: Mapping[str, Parameter], drawn: Mapping[str, Any]) -> Config:
    """What a searcher drew, as values of the spec's fields."""
    config = {}
    for path, parameter in space.items():
        value = drawn[path]
        if isinstance(parameter, Range):
            config[path] = snap(parameter, float(value))
        else:
            config[path] = parameter[encode(parameter).index(value)]
    return config


def combinations(
    space: Mapping[str, Parameter], sections: str | tuple[str, ...] = ""
) -> Iterator[Config]:
    """Every combination of the corners of the parameters whose path begins with one of `sections`.

    Without `sections`, of all parameters.
    """
    paths = [path for path in space if path.startswith(sections)]
    for combination in itertools.product(*(corners(space[path]) for path in paths)):
        yield dict(zip(paths, combination, strict=True))


def with_config(spec: TuneSpec, config: Config) -> TuneSpec:
    """`spec` with the fields of `config` set.

    Raises:
        SpecError: naming the path, if it is no field, or cannot hold its value.
    """
    if not config:
        return spec
    # Without defaults: some fields refuse to be given beside others.
    tree = spec.model_dump(mode="json", exclude_unset=True)
    for path, value in config.items():
        set_at(tree, path, value, cls=TuneSpec, subject=f"space: {path}")
    return validate(TuneSpec, tree, f"space: {in_words(config)}")


def in_words(config: Config) -> str:
    """E.g. "synthetic_ratio 0.5, guidance_scale 2": each field by the last part of its path."""
    return ", ".join(
        f"{short_name(path)} {value_in_words(value)}" for path, value in config.items()
    )


def short_name(path: str) -> str:
    """The last part of a path that is a word."""
    return next(part for part in reversed(path.split(".")) if not part.isdecimal())


def value_in_words(value: object) -> str:
    """A value as it may stand in a spec, e.g. "0.5" or "null"; numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def check_space(spec: TuneSpec) -> None:
    """Refuse a space that holds something else than fields of the spec and values they take.

    Raises:
        SpecError: naming the path and the value.
    """
    if spec.search.searcher == "grid":
        endless = [path for path, parameter in spec.space.items() if values(parameter) is None]
        if endless:
            raise SpecError(
                f"space: {endless} have no step, and a grid has an end; give steps or lists, or "
                "searcher random or optuna"
            )
    endless = [
        path
        for path, parameter in spec.space.items()
        if path.startswith("generate.") and values(parameter) is None
    ]
    if endless:
        raise SpecError(
            f"space: {endless} change the images and have no step, so every trial would draw "
            "images of its own; give a step or a list, so that trials share them"
        )
    for path, parameter in spec.space.items():
        for value in corners(parameter):
            with_config(spec, {path: value})
        if isinstance(parameter, Range) and parameter.step is None:
            _check_takes_fractions(spec, path, parameter)


def _check_takes_fractions(spec: TuneSpec, path: str, parameter: Range) -> None:
    """Refuse a range that holds more than its field takes, e.g. parts of a step."""
    # No whole number, whatever the ends are.
    between = parameter.low + (parameter.high - parameter.low) / math.pi
    try:
        with_config(spec, {path: between})
    except SpecError as error:
        raise SpecError(
            f"{error}; a range without a step holds every number between: give a step or a list"
        ) from None
