"""Frozen specs, read from YAML with overrides, refused with exact paths."""

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

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


def kind_or(default: str) -> Discriminator:
    """Picks a section's model, each tagged `<kind>`, by its key `kind`; without one, `default`."""

    def tag(value: object) -> str:
        if isinstance(value, dict):
            return f"<{value.get('kind', default)}>"
        return f"<{getattr(value, 'kind', default)}>"

    return Discriminator(tag)


MixedPrecision = Literal["auto", "no", "bf16"]
"""Whether a training computes in bfloat16 where float32 is not needed; auto: where the device is
made for it (GPUs from 2020 on, CPUs with AVX-512). Others imitate it, ten times slower."""


class SpecError(ValueError):
    """Something asked for cannot be done; the message names it, what was got and what to do."""


class JobError(RuntimeError):
    """Work has begun and cannot be finished; the message says why and what to do."""


class Frozen(BaseModel):
    """Base of specs, plans and records: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SpecT = TypeVar("SpecT", bound=Frozen)
_COMMAND_LINE = "command line"


def check_once(field: str, names: Sequence[str]) -> None:
    """Refuse class names of which one comes twice.

    Raises:
        ValueError: naming them.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{field} holds {twice} more than once; name each class once")


def load_spec(cls: type[SpecT], path: str | Path | None, overrides: Sequence[str] = ()) -> SpecT:
    """Read a YAML spec, apply `key.path=value` overrides, validate once.

    Args:
        cls: the spec's model.
        path: YAML file; None starts from the defaults.
        overrides: each `a.b=value`, the value read as YAML. One into a section that the file does
            not have changes that value alone of the section's default.

    Raises:
        SpecError: naming every wrong field by its path, what was got, and the nearest valid key.
    """
    tree = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(tree, override, cls)
    given = [override.partition("=")[0] for override in overrides]
    return validate(cls, tree, str(path or (_COMMAND_LINE if given else "defaults")), given)


def validate(cls: type[SpecT], tree: object, subject: str, overridden: Sequence[str] = ()) -> SpecT:
    """`cls.model_validate`, with every offending field named in one `SpecError`.

    Args:
        cls: the model.
        tree: what to validate.
        subject: where it comes from.
        overridden: paths of fields that come from the command line instead.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        # What spans several fields may be due to either.
        is_both = overridden and subject != _COMMAND_LINE
        both = f"{subject} with the command line" if is_both else subject
        wrong: dict[str, list[str]] = {subject: [], _COMMAND_LINE: [], both: []}
        for item in error.errors(include_url=False):
            if not _is_consequence(item):
                path = _path(cls, item["loc"])
                is_own = any(_is_within(path, one) or _is_within(one, path) for one in overridden)
                place = _COMMAND_LINE if is_own else subject if path else both
                wrong[place].append(_explain(cls, path, item))
        lines = [f"{place}: {'; '.join(found)}" for place, found in wrong.items() if found]
        raise SpecError("; ".join(lines)) from None


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


def _apply(tree: dict[str, Any], override: str, cls: type[BaseModel]) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"{override!r}: is no override; write key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SpecError(f"{override!r}: the value is no YAML; quote it") from None
    set_at(tree, path, value, cls=cls, subject=repr(override))


def set_at(
    tree: dict[str, Any], path: str, value: object, *, cls: type[BaseModel], subject: str
) -> None:
    """Set what lies at `path` in a tree of a spec, in place.

    Args:
        tree: keys and values as in YAML; a section that is not there is begun from its default.
        path: keys, and places of lists, joined by dots.
        value: what to set.
        cls: the spec's model, which knows the defaults.
        subject: what messages begin with.

    Raises:
        SpecError: if the path leads through something that is no section. Whether the last key is
            known is found out by validation.
    """
    *parents, leaf = path.split(".")
    place: Any = tree
    default: Any = cls
    for parent in parents:
        key = _key_in(place, parent, subject)
        is_new = isinstance(place, dict) and key not in place
        default = _default_at(default, parent) if is_new else None
        child = place.setdefault(key, _given(default)) if is_new else place[key]
        if not isinstance(child, dict | list):
            raise SpecError(f"{subject}: {parent} is {child!r}, not a section with keys")
        place = child
    place[_key_in(place, leaf, subject)] = value


def _default_at(owner: Any, part: str) -> Any:
    """The default of a field of a model or of an instance of one, or an entry of a table."""
    if isinstance(owner, dict):
        return owner.get(part)
    if isinstance(owner, type):
        field = owner.model_fields.get(part)
        return None if field is None or field.is_required() else field.get_default()
    return getattr(owner, part, None)


def _given(default: Any) -> dict[str, Any]:
    """What a default section says beyond the defaults of its own fields."""
    return default.model_dump(exclude_unset=True) if isinstance(default, BaseModel) else {}


def _key_in(place: dict[str, Any] | list[Any], part: str, subject: str) -> Any:
    """A part of a path as a key of a section or a place in a list."""
    if isinstance(place, dict):
        return part
    if not (part.isdecimal() and int(part) < len(place)):
        raise SpecError(f"{subject}: {part} is no place of a list with 0 to {len(place) - 1}")
    return int(part)


def _path(cls: type[BaseModel], location: Sequence[str | int]) -> str:
    """A place as a user writes it: without the tags of unions; "" is the spec itself."""
    annotation: Any = cls
    parts: list[str] = []
    for part in location:
        is_tag = _is_tag(part) or _tagged(annotation, part) is not None
        parts += [] if is_tag else [str(part)]
        annotation = _child(annotation, part)
    return ".".join(parts)


def _is_within(path: str, section: str) -> bool:
    return f"{path}.".startswith(f"{section}.")


def _explain(cls: type[BaseModel], path: str, item: Any) -> str:
    if item["type"] == "missing":
        return f"{path}: is missing; give a value"
    if item["type"] == "extra_forbidden":
        owner = _model_at(cls, item["loc"][:-1])
        names = list(owner.model_fields)
        near = difflib.get_close_matches(item["loc"][-1], names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        return f"{path}: is no key of {owner.__name__}; {hint}"
    if item["type"] == "union_tag_invalid":
        kinds = item["ctx"]["expected_tags"].replace("<", "").replace(">", "")
        return f"{path}.kind: is {item['ctx']['tag'].strip('<>')!r}; known kinds: {kinds}"
    message = item["msg"].removeprefix("Value error, ")
    if not path:
        return message
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        # The message of a section names those of its keys that it is about.
        return f"{path}: {message}"
    if item["type"] == "too_short":
        return f"{path}: holds {len(item['input'])}; give at least {item['ctx']['min_length']}"
    if item["type"] == "tuple_type":
        return f"{path}: got {item['input']!r}; give a list, [...]"
    if item["type"] == "dict_type":
        return f"{path}: got {item['input']!r}; give a table, {{key: value}}"
    if item["type"] in ("model_type", "model_attributes_type"):
        keys = ", ".join(_model_at(cls, item["loc"]).model_fields)
        return f"{path}: got {item['input']!r}; give a section with some of its keys: {keys}"
    return f"{path}: got {item['input']!r}, {message[0].lower()}{message[1:]}"


def _is_consequence(item: Any) -> bool:
    """Whether a list or table is too short only because its wrong entries, named too, are out."""
    return item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("<")


def _model_at(cls: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    """The model that lies at a place in the tree, tags of unions included."""
    annotation: Any = cls
    for part in location:
        annotation = _child(annotation, part)
    return next(model for model in _models(annotation))


def _child(annotation: Any, part: str | int) -> Any:
    """What lies below `part` of a place that is annotated so."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    if (model := _tagged(annotation, part)) is not None:
        return model
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    # An item of a list or a value of a table; an optional section has one model.
    models = _models(annotation)
    fields = [model for model in models if isinstance(part, str) and part in model.model_fields]
    return fields[0].model_fields[str(part)].annotation if fields else annotation


def _tagged(annotation: Any, tag: str | int) -> type[BaseModel] | None:
    """The model of a union whose `kind` is `tag`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None
    for model in _models(annotation):
        kind = model.model_fields.get("kind")
        if kind is not None and str(tag).strip("<>") in get_args(kind.annotation):
            return model
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
