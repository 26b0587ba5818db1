"""Find a model by embedded name, folder or Hub id, and pin its content."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from factory.spec import DdpmGenerator, EdmGenerator, SpecError

ASSETS = Path(__file__).parent / "assets"
INDEX_NAME = "model_index.json"
TRAINED_ON = "_trained_on"
"""Where the configuration of a model of diffusers' own kinds says what real data was seen;
diffusers passes over names like this."""
_WEIGHTS = (".safetensors", ".bin", ".pt")
_HASHED = {".json", ".txt", ".model", *_WEIGHTS}
"""Files that loading a model can read; cards and pictures beside them change nothing."""
_CLASS_NAMES = {"edm": "EdmPipeline", "ddpm": "DdpmPipeline"}
"""Kind of generator -> class that its model_index.json names."""


class PixelConfig(BaseModel):
    """The part of a pixel model's model_index.json that planning needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_name: Literal["EdmPipeline", "DdpmPipeline"] = Field(alias="_class_name")
    name: str
    id2label: dict[str, str]
    """Label -> class name; empty: unconditional."""
    image_size: int
    patch_size: int
    label_dropout: float
    trained_on: dict[str, Any] | None

    @field_validator("id2label")
    @classmethod
    def _complete(cls, names: dict[str, str]) -> dict[str, str]:
        if sorted(names) != sorted(str(label) for label in range(len(names))):
            raise ValueError(f"labels are {sorted(names)}; give 0 to {len(names) - 1}")
        if len(set(names.values())) != len(names):
            raise ValueError(f"class names are {list(names.values())}; name each class once")
        return names


@dataclass(frozen=True, slots=True)
class PinnedFolder:
    """A folder of weights and their configuration, pinned."""

    path: str
    """Local folder, or Hub id."""
    revision: str | None
    """Commit on the Hub; None for a local folder."""
    digest: str
    """sha256 over the folder's files, or the commit."""

    def local(self, *, config_only: bool = False) -> Path:
        """Where the files lie; those of the Hub are downloaded, or its JSON files alone."""
        return self.files(["*.json"] if config_only else None)

    def files(self, patterns: list[str] | None) -> Path:
        """Where the files lie; those of the Hub are downloaded, or the ones that match alone."""
        if self.revision is None:
            return Path(self.path)
        from factory.hub import fetch_model

        return fetch_model(self.path, self.revision, patterns)

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is no JSON.
        """
        return json.loads((self.local(config_only=True) / name).read_bytes())


@dataclass(frozen=True, slots=True)
class ModelFolder(PinnedFolder):
    """A pixel model in diffusers' folder format, pinned."""

    config: PixelConfig
    is_embedded: bool = False

    @property
    def name(self) -> str:
        """What provenance calls the model: its Hub id, or its own name, wherever it lies."""
        return self.path if self.revision is not None else self.config.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the model's labels; empty: unconditional."""
        names = self.config.id2label
        return tuple(names[str(label)] for label in range(len(names)))


@dataclass(frozen=True, slots=True)
class PipelineFolder(PinnedFolder):
    """A model of diffusers' own kinds, pinned."""

    index: dict[str, Any]
    """Its model_index.json."""
    is_embedded: bool = False

    @property
    def name(self) -> str:
        """What provenance calls the model: its Hub id, or its folder's name."""
        return self.path if self.revision is not None else Path(self.path).name

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """What the model had seen, as jobs/fit.py writes it; None: not known."""
        return self.index.get(TRAINED_ON)


def open_model(
    generator: EdmGenerator | DdpmGenerator, *, field: str = "generator.model"
) -> ModelFolder:
    """Find a pixel model, and pin its content.

    Args:
        generator: names the model.
        field: where the spec names it, for errors.

    Raises:
        SpecError: if it cannot be found or read, or is no model of this kind.
    """
    found = _find(generator.model, generator.revision, field)
    config = _read_config(found.local(config_only=True) / INDEX_NAME, generator.kind, field)
    return ModelFolder(
        found.path, found.revision, found.digest, config, _is_embedded(generator.model)
    )


def open_pipeline(name: str, revision: str | None, *, field: str) -> PipelineFolder:
    """Find a pipeline of diffusers, and pin its content.

    Raises:
        SpecError: if it cannot be found or read.
    """
    found = _find(name, revision, field)
    path = found.local(config_only=True) / INDEX_NAME
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error, field) from None
    except ValueError as error:
        raise SpecError(f"{field}: {path} is no JSON ({error})") from None
    return PipelineFolder(found.path, found.revision, found.digest, index, _is_embedded(name))


def pin_folder(
    name: str, revision: str | None, *, field: str, instead: str = "a folder in diffusers' format"
) -> PinnedFolder:
    """Pin a folder, or a repository on the Hub, by content; the latter's JSON files are fetched.

    Args:
        name: a folder, or `org/name`.
        revision: commit, tag or branch on the Hub.
        field: where the spec names it, for errors.
        instead: what the spec may name instead of a repository that cannot be had.

    Raises:
        SpecError: if it cannot be had.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            owner = field.removesuffix(field.split(".")[-1])
            raise SpecError(
                f"{owner}revision: is {revision}, but {name} is a local folder; leave it out"
            )
        return PinnedFolder(str(folder.resolve()), None, folder_digest(folder, field=field))
    from factory.hub import model_commit  # the Hub's client, which local folders do not need

    with hub_errors(name, field=field, instead=instead):
        commit = model_commit(name, revision)
        found = PinnedFolder(name, commit, commit)
        # A repository that may be seen but not read is refused here, and not amid the work.
        found.local(config_only=True)
    return found


@contextmanager
def hub_errors(name: str, *, field: str, instead: str) -> Iterator[None]:
    """Within it, a repository that cannot be had from the Hub is a `SpecError`.

    Args:
        name: the repository.
        field: where the spec names it.
        instead: what the spec may name instead.
    """
    from huggingface_hub.errors import HFValidationError

    from factory.hub import HUB_ERRORS

    try:
        yield
    except HFValidationError:
        raise SpecError(
            f"{field}: {name} is no folder, and no id of the Hugging Face Hub (org/name); give "
            f"{instead}"
        ) from None
    except (*HUB_ERRORS, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"{field}: {name} is no folder and cannot be had from the Hugging Face Hub ({reason}); "
            f"give {instead}"
        ) from None


def folder_digest(folder: Path, *, field: str) -> str:
    """sha256 over the names and contents of all that loading a model can read; hex.

    Raises:
        SpecError: if there are no weights, or a file cannot be read.
    """
    total = hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.suffix in _HASHED and p.is_file())
    if not any(path.suffix in _WEIGHTS for path in files):
        raise SpecError(
            f"{field}: {folder} holds no weights ({' or '.join(_WEIGHTS)}); give the folder of a "
            "model, not one of a dataset or of results"
        )
    for path in files:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise SpecError(f"{field}: {path} cannot be read ({error.strerror})") from None
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def _find(name: str, revision: str | None, field: str) -> PinnedFolder:
    if _is_embedded(name):
        return pin_folder(str(ASSETS / name), revision, field=field)
    is_folder = Path(name).expanduser().is_dir()
    if not is_folder and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        embedded = sorted(path.parent.name for path in ASSETS.glob(f"*/{INDEX_NAME}"))
        raise SpecError(
            f"{field}: {name} is no folder and no embedded model; embedded: {embedded}, "
            "or give a folder in diffusers' format or org/name on the Hugging Face Hub"
        )
    return pin_folder(name, revision, field=field)


def _is_embedded(name: str) -> bool:
    return Path(name).name == name and (ASSETS / name / INDEX_NAME).is_file()


def _read_config(path: Path, kind: str, field: str) -> PixelConfig:
    try:
        config = PixelConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error, field) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise SpecError(
            f"{field}: {path} describes no pixel model ({wrong}); "
            f"generator kind {kind} needs a folder as jobs/fit.py makes it"
        ) from None
    if config.class_name != _CLASS_NAMES[kind]:
        right = next(k for k, name in _CLASS_NAMES.items() if name == config.class_name)
        raise SpecError(f"{field}: {path} describes a model of kind {right}, not {kind}")
    return config


def _unreadable(path: Path, error: OSError, field: str) -> SpecError:
    return SpecError(
        f"{field}: {path} cannot be read ({error.strerror}); "
        "a model folder in diffusers' format holds one"
    )
