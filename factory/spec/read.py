"""Frozen specs, read from YAML with overrides, refused with exact paths."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

Count = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_TAGS = ("<number>", "<table>")
Counts = Annotated[
    Annotated[Count, Tag(_TAGS[0])] | Annotated[dict[str, Count], Tag(_TAGS[1])],
    Discriminator(lambda value: _TAGS[isinstance(value, dict)]),
]
"""One count for each class, or a table of counts by class name."""


class SpecError(ValueError):
    """Something asked for cannot be done; the message names it, what was got and what to do."""


class JobError(RuntimeError):
    """Work has begun and cannot be finished; the message says why and what to do."""


class Frozen(BaseModel):
    """Base of specs, plans and records: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SpecT = TypeVar("SpecT", bound=Frozen)


def load_spec(cls: type[SpecT], path: str | Path | None, overrides: Sequence[str] = ()) -> SpecT:
    """Read a YAML spec, apply `key.path=value` overrides, validate once.

    Args:
        cls: the spec's model.
        path: YAML file; None starts from the defaults.
        overrides: each `a.b=value`, the value read as YAML.

    Raises:
        SpecError: naming every wrong field by its path, what was got, and the nearest valid key.
    """
    tree = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(tree, override)
    return validate(cls, tree, str(path or "defaults"))


def validate(cls: type[SpecT], tree: object, subject: str) -> SpecT:
    """`cls.model_validate`, with every offending field named in one `SpecError`."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(cls, item) for item in error.errors(include_url=False)]
        raise SpecError(f"{subject}: " + "; ".join(lines)) from None


def fingerprint(identity: object) -> str:
    """First 12 hex digits of the sha256 of `identity` as canonical JSON."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: object, new: object, path: str = "") -> list[str]:
    """Every place where two JSON trees differ, as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: is no YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SpecError(f"{path}: holds a {type(tree).__name__}, expected `key: value` lines")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"{override!r}: is no override; write key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SpecError(f"{override!r}: the value is no YAML; quote it") from None
    *parents, leaf = path.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise SpecError(f"{override!r}: {parent} is {child!r}, not a section with keys")
        tree = child
    tree[leaf] = value


def _explain(cls: type[BaseModel], item: Any) -> str:
    location = [str(part) for part in item["loc"] if part not in _TAGS]
    path = ".".join(location) or cls.__name__
    if item["type"] == "extra_forbidden":
        owner = _model_at(cls, location[:-1])
        names = list(owner.model_fields)
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        return f"{path}: is no key of {owner.__name__}; {hint}"
    if not location:
        return item["msg"].removeprefix("Value error, ")
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: got {item['input']!r}, {message[0].lower()}{message[1:]}"


def _model_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    for name in location:
        annotation = cls.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        cls = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return cls
