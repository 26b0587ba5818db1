"""Which classes of an ImageNet model the images of a dataset's coarser classes are drawn of."""

import difflib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from factory.spec import FineClass, Frozen, SpecError

MAX_ROUND = 100_000
"""Turns in which the weights of a class must come out exactly; their order is held in memory."""


class FineLabel(Frozen):
    """A class of the model."""

    label: int
    name: str
    """In full, as the model has it."""
    weight: int
    """Turns that it has in each round of its coarse class."""


class ResolvedMapping(Frozen):
    """The fine classes of each class, found in the model."""

    classes: dict[str, tuple[FineLabel, ...]]
    """Class of the dataset -> the model's classes; their weights have no common divisor."""


class _Index(BaseModel):
    """The part of model_index.json that planning needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_name: str = Field(alias="_class_name")
    id2label: dict[int, str] = {}


class _Transformer(BaseModel):
    """The part of transformer/config.json that planning needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_classes: int = Field(alias="num_embeds_ada_norm")


_ConfigT = TypeVar("_ConfigT", bound=BaseModel)


def read_id2label(folder: Path) -> dict[int, str]:
    """Label -> full class name of a model in the format of diffusers' DiTPipeline.

    Raises:
        SpecError: if a file cannot be read, the folder holds another kind of pipeline, or
            `id2label` names no classes, or some that its transformer does not have.
    """
    index = _read(_Index, folder / "model_index.json")
    if index.class_name != "DiTPipeline":
        raise SpecError(
            f"generator.model: {folder} is a {index.class_name}; "
            "generator kind dit takes a DiTPipeline"
        )
    num_classes = _read(_Transformer, folder / "transformer" / "config.json").num_classes
    if not index.id2label:
        raise SpecError(
            f"generator.model: {folder / 'model_index.json'} has no id2label; add the names of "
            f'the {num_classes} classes, e.g. {{"0": "tench, Tinca tinca"}}'
        )
    beyond = sorted(label for label in index.id2label if not 0 <= label < num_classes)
    if beyond:
        raise SpecError(
            f"generator.model: {folder / 'model_index.json'} names the labels {beyond}, but the "
            f"transformer has 0 to {num_classes - 1}; correct id2label"
        )
    return index.id2label


def resolve_mapping(
    mapping: Mapping[str, Sequence[FineClass]], id2label: Mapping[int, str]
) -> ResolvedMapping:
    """Find every fine class among the model's.

    A fine class is named in full or by one of the names between commas, in upper or lower case.
    Where the name fits several classes of the model, the index says which.

    Args:
        mapping: class of the dataset -> fine classes.
        id2label: label -> full name of the model's classes.

    Raises:
        SpecError: naming every fine class that is unknown, fits several, has the index of another
            or stands twice in its class, and all weights that need too long a round.
    """
    labels = _labels_by_name(id2label)
    wrong = [
        f"generator.mapping.{class_name}{place}: {reason}"
        for class_name, fine in mapping.items()
        for place, reason in _refusals(fine, labels, id2label)
    ]
    if wrong:
        raise SpecError("; ".join(wrong))
    classes = {}
    for class_name, fine in mapping.items():
        found = [_label(item, labels) for item in fine]
        classes[class_name] = tuple(
            FineLabel(label=label, name=id2label[label], weight=weight)
            for label, weight in zip(found, _whole_weights(fine), strict=True)
        )
    return ResolvedMapping(classes=classes)


def fine_label(mapping: ResolvedMapping, class_name: str, turn: int) -> FineLabel:
    """The fine class that turn `turn` (from 0) of a class is drawn of.

    Of any first n turns, each fine class has its weight's share of n, rounded down or up.
    """
    fine = mapping.classes[class_name]
    order = _round(tuple(item.weight for item in fine))
    return fine[order[turn % len(order)]]


@cache
def _round(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Whose turn it is, for sum(weights) turns: each index i has weights[i] of them.

    Balinski and Young's quota method (1975, "The quota method of apportionment"): of those below
    their share, the one whose next turn is due first. Always taking the largest deficit, or
    Webster's sequence, can miss the share by more than 1.
    """
    length, counts = sum(weights), np.zeros(len(weights), np.int64)
    shares, order = np.array(weights), []
    for num_turns in range(1, length + 1):
        is_below = counts * length < num_turns * shares
        chosen = int(np.where(is_below, (counts + 1) / shares, np.inf).argmin())
        counts[chosen] += 1
        order.append(chosen)
    return tuple(order)


def _read(kind: type[_ConfigT], path: Path) -> _ConfigT:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SpecError(
            f"generator.model: {path} cannot be read ({error.strerror}); "
            "give a folder or Hub id in the format of diffusers' DiTPipeline"
        ) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise SpecError(
            f"generator.model: {path} is not as diffusers' DiTPipeline has it ({wrong})"
        ) from None


def _labels_by_name(id2label: Mapping[int, str]) -> dict[str, list[int]]:
    """Each name of a class, in full and in part, in lower case -> the labels that it fits."""
    labels = defaultdict(list)
    for label, full_name in id2label.items():
        for name in {_plain(part) for part in (full_name, *full_name.split(","))}:
            labels[name].append(label)
    return dict(labels)


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _label(item: FineClass, labels: Mapping[str, list[int]]) -> int:
    """The label of a fine class that is not refused."""
    return labels[_plain(item.name)][0] if item.index is None else item.index


def _refusals(
    fine: Sequence[FineClass], labels: Mapping[str, list[int]], id2label: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """Place in the class and reason of all that is wrong with its fine classes."""
    first: dict[int, int] = {}
    for number, item in enumerate(fine):
        reason = _refusal(item, labels, id2label)
        if reason is None:
            label = _label(item, labels)
            if first.setdefault(label, number) != number:
                reason = f"{id2label[label]!r} ({label}) is number {first[label]} already"
        if reason is not None:
            yield f".{number}", reason
    length = sum(_whole_weights(fine))
    if length > MAX_ROUND:
        yield (
            "",
            f"weights {[item.weight for item in fine]} come out exactly in {length} images only, "
            f"expected at most {MAX_ROUND}; give rounder ones, e.g. 2 and 1",
        )


def _refusal(
    item: FineClass, labels: Mapping[str, list[int]], id2label: Mapping[int, str]
) -> str | None:
    fitting = labels.get(_plain(item.name), [])
    if not fitting:
        near = difflib.get_close_matches(_plain(item.name), labels, n=3, cutoff=0)
        known = ", ".join(f"{name!r} {labels[name]}" for name in near)
        return f"{item.name!r} is no class of the model; nearest: {known}"
    if item.index is None and len(fitting) > 1:
        return f"{item.name!r} fits the classes {fitting}; say which by index"
    if item.index is not None and item.index not in fitting:
        there = id2label.get(item.index)
        other = "no class of the model" if there is None else repr(there)
        return f"index {item.index} is {other}, and {item.name!r} is {fitting}; correct one of them"
    return None


def _whole_weights(fine: Sequence[FineClass]) -> tuple[int, ...]:
    """The weights as the smallest whole numbers in the same proportion."""
    # By its shortest decimal form 0.1 is 1/10; by its bits it is not.
    weights = [Fraction(repr(item.weight)) for item in fine]
    scale = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * scale) for weight in weights]
    divisor = math.gcd(*whole)
    return tuple(weight // divisor for weight in whole)
