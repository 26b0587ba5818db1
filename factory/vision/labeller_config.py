"""What a saved classifier of images says of itself, read without loading it.

Two formats: a folder as jobs/classify.py saves classifiers, and one of transformers.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from factory.spec import SpecError

_CONFIG = "config.json"
_TASK = "ForImageClassification"
"""In the class names of transformers' image classifiers, in some followed by more."""


class LabellerConfig(NamedTuple):
    """The part of a `config.json` that planning needs."""

    format: Literal["factory", "transformers"]
    class_names: tuple[str, ...]
    """In the order of its labels. transformers' may hold a name twice: ImageNet's have two cranes.
    """
    trained_on: dict[str, Any] | None
    """As in a model's model_index.json: `name`, `split`, `num_images` and `digest` of the images
    that the classifier had seen, and `before`, what was seen before them; None: not known."""


class _OfFactory(BaseModel):
    """The part that is read of `factory.vision.classifier.ClassifierConfig`."""

    model_config = ConfigDict(extra="ignore")

    class_names: tuple[str, ...] = Field(min_length=1)
    trained_on: dict[str, Any] | None = None


class _OfTransformers(BaseModel):
    """The part that is read of a configuration of transformers."""

    model_config = ConfigDict(extra="ignore")

    architectures: tuple[str, ...]
    id2label: dict[int, str] = Field(min_length=1)

    @field_validator("architectures")
    @classmethod
    def _looks_at_images(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not any(_TASK in name for name in names):
            raise ValueError(f"{', '.join(names)} is no network {_TASK}")
        return names

    @field_validator("id2label")
    @classmethod
    def _complete(cls, names: dict[int, str]) -> dict[int, str]:
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"labels are {sorted(names)}; expected 0 to {len(names) - 1}")
        return names


def read_labeller_config(folder: str | Path, *, field: str = "labeller.model") -> LabellerConfig:
    """Read `folder/config.json`, whichever of the two formats it is in.

    Args:
        folder: a classifier's folder.
        field: where the spec names it, for errors.

    Raises:
        SpecError: if there is none, or it describes no image classifier with class names.
    """
    path = Path(folder) / _CONFIG
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise _refused(field, path, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise _refused(field, path, f"is no JSON ({error})") from None
    try:
        if isinstance(config, dict) and "class_names" in config:
            own = _OfFactory.model_validate(config)
            return LabellerConfig("factory", own.class_names, own.trained_on)
        theirs = _OfTransformers.model_validate(config)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise _refused(field, path, f"describes no image classifier ({wrong})") from None
    names = tuple(theirs.id2label[label] for label in range(len(theirs.id2label)))
    return LabellerConfig("transformers", names, None)


def labeller_class_names(folder: str | Path, *, field: str = "labeller.model") -> tuple[str, ...]:
    """Class names of a classifier in the order of its labels; as `read_labeller_config`."""
    return read_labeller_config(folder, field=field).class_names


def labeller_trained_on(
    folder: str | Path, *, field: str = "labeller.model"
) -> dict[str, Any] | None:
    """What a classifier had seen, None if it does not say; as `read_labeller_config`."""
    return read_labeller_config(folder, field=field).trained_on


def _refused(field: str, path: Path, reason: str) -> SpecError:
    return SpecError(
        f"{field}: {path} {reason}; give a folder that jobs/classify.py saved "
        "(save_classifiers: true), or an image classifier in transformers' format with its "
        "class names as id2label"
    )
