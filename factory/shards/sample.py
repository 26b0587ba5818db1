"""One accepted image with label and provenance, and what a shard demands of its samples."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

ProvenanceValue = str | int | float | bool | None

PROVENANCE: Mapping[str, pa.DataType] = {
    "is_synthetic": pa.bool_(),
    "source": pa.string(),
    "candidate": pa.int64(),
    "shard": pa.int64(),
    "seed": pa.int64(),
    "model_id": pa.string(),
    "model_revision": pa.string(),
    "scheduler": pa.string(),
    "num_inference_steps": pa.int32(),
    "guidance_scale": pa.float64(),
    "fine_class": pa.string(),
    "prompt": pa.string(),
    "negative_prompt": pa.string(),
    "adapter": pa.string(),
    "t_re": pa.int32(),
    "strength": pa.float64(),
    "source_image": pa.string(),
    "source_pass": pa.int32(),
    "labeller": pa.string(),
    "confidence": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "pixel_sha256": pa.string(),
}
"""What an image can say of where it came from: column -> Arrow type, in column order."""

_PYTHON_TYPES: Mapping[pa.DataType, type] = {
    pa.bool_(): bool,
    pa.string(): str,
    pa.int64(): int,
    pa.int32(): int,
    pa.float64(): float,
}
# A dot ends a key in WebDataset, and ustar holds names of 100 bytes: a key and ".json".
_KEY = re.compile(r"[A-Za-z0-9_-]{1,95}")


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded image, its label, and where it came from."""

    key: str
    """Unique in its dataset: at most 95 ASCII letters, digits, '-' and '_'."""
    image: bytes
    """PNG."""
    label: int
    class_name: str
    provenance: Mapping[str, ProvenanceValue]
    """Columns of `PROVENANCE`, the same ones for all samples of a shard; None: not known."""


def check_samples(samples: Sequence[Sample], class_names: Sequence[str]) -> None:
    """Refuse samples that do not make a shard.

    Raises:
        ValueError: naming the samples at fault by key, what was got and what is expected.
    """
    if not samples:
        raise ValueError("shard holds no samples; give at least one")
    bad = [sample.key for sample in samples if not _KEY.fullmatch(sample.key)]
    if bad:
        raise ValueError(f"keys {bad} are none; give 1 to 95 ASCII letters, digits, '-' and '_'")
    twice = [key for key, count in Counter(sample.key for sample in samples).items() if count > 1]
    if twice:
        raise ValueError(
            f"keys {twice} occur more than once in the shard; give each sample its own"
        )
    for sample in samples:
        _check_label(sample, class_names)
        _check_provenance(sample, samples[0])


def _check_label(sample: Sample, class_names: Sequence[str]) -> None:
    known = 0 <= sample.label < len(class_names)
    if not known or class_names[sample.label] != sample.class_name:
        raise ValueError(
            f"sample {sample.key}: label is {sample.label} and class_name {sample.class_name!r}; "
            f"the classes in label order are {list(class_names)}"
        )


def _check_provenance(sample: Sample, first: Sample) -> None:
    unknown = sorted(sample.provenance.keys() - PROVENANCE.keys())
    if unknown:
        raise ValueError(
            f"sample {sample.key}: provenance has {unknown}; known are {list(PROVENANCE)}"
        )
    odd = sorted(sample.provenance.keys() ^ first.provenance.keys())
    if odd:
        raise ValueError(
            f"sample {sample.key}: provenance differs from {first.key} in having or lacking {odd}; "
            "give all samples of a shard the same columns, with None for what is not known"
        )
    for name, value in sample.provenance.items():
        expected = _PYTHON_TYPES[PROVENANCE[name]]
        # Not isinstance: True would pass as an int, and come back as 1. JSON has no NaN.
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is not None and not (type(value) is expected and finite):
            raise ValueError(
                f"sample {sample.key}: {name} is {value!r}; "
                f"give a {'finite ' if expected is float else ''}{expected.__name__} or None"
            )
