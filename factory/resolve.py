"""Pin what a spec asks by content: a spec becomes a resolved spec with a fingerprint."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from factory.plan import Plan, class_counts
from factory.records import RootSpec
from factory.spec import EdmGenerator, GenerateSpec, SpecError, fingerprint

ASSETS = Path(__file__).parent / "assets"
_INDEX = "model_index.json"
_WEIGHTS = (".safetensors", ".bin")
_HASHED = {".json", ".txt", ".model", *_WEIGHTS}
"""Files that loading a model can read; cards and pictures beside them change nothing."""


class ModelConfig(BaseModel):
    """The part of an EdmPipeline's model_index.json that planning needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_name: Literal["EdmPipeline"] = Field(alias="_class_name")
    name: str
    id2label: dict[str, str] = Field(min_length=1)
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
class ModelFolder:
    """A model in diffusers' folder format, pinned."""

    path: str
    """Local folder, or Hub id."""
    revision: str | None
    """Commit on the Hub; None for a local folder."""
    digest: str
    """sha256 over the folder's files, or the commit."""
    config: ModelConfig
    is_embedded: bool = False

    @property
    def name(self) -> str:
        """What provenance calls the model: its Hub id, or its own name, wherever it lies."""
        return self.path if self.revision is not None else self.config.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the model's labels."""
        names = self.config.id2label
        return tuple(names[str(label)] for label in range(len(names)))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec with every input pinned: what is asked, its plan, and where the model lies."""

    spec: GenerateSpec
    root_spec: RootSpec
    plan: Plan
    model: ModelFolder

    @property
    def fingerprint(self) -> str:
        """12 hex digits that name all that changes a byte."""
        return self.root_spec.fingerprint


def resolve(spec: GenerateSpec) -> Resolved:
    """Pin every input of `spec` by content.

    Raises:
        SpecError: if the model cannot be read, does not know a class that is asked for, or takes
            no guidance though guidance is asked for.
    """
    model = open_model(spec.generator)
    class_names = spec.class_names or model.class_names
    unknown = [name for name in class_names if name not in model.class_names]
    if unknown:
        raise SpecError(
            f"class_names: {unknown} are no classes of model {spec.generator.model}; "
            f"it knows {list(model.class_names)}"
        )
    if spec.generator.guidance_scale != 1 and not model.config.label_dropout:
        raise SpecError(
            f"generator.guidance_scale: is {spec.generator.guidance_scale}, but model "
            f"{spec.generator.model} was trained with label_dropout 0 and takes no guidance; give 1"
        )
    layout = spec.layout or (
        "by_class" if isinstance(spec.images_per_class, dict) else "interleaved"
    )
    plan = Plan(
        name=spec.name,
        class_names=class_names,
        counts=class_counts(spec, class_names),
        layout=layout,
        shard_size=spec.shard_size,
        batch_size=spec.batch_size,
        seed=spec.seed,
    )
    identity = {
        "name": spec.name,
        "generator": spec.generator.model_dump(mode="json", exclude={"model", "revision"})
        | {"digest": model.digest},
        "class_names": list(class_names),
        "seed": spec.seed,
        "layout": layout,
        "shard_size": spec.shard_size,
        "batch_size": spec.batch_size,
        "threads": spec.threads,
        "output": spec.output.model_dump(mode="json"),
    }
    asked = spec.model_dump(mode="json", exclude={"resources", "recheck", "preview"})
    if not model.is_embedded:
        # Whoever draws from this root again may stand in another folder, or come after a push.
        asked["generator"] |= {"model": model.path, "revision": model.revision}
    root_spec = RootSpec(
        fingerprint=fingerprint(identity),
        identity=identity,
        asked=asked,
        trained_on=model.config.trained_on,
    )
    return Resolved(spec=spec, root_spec=root_spec, plan=plan, model=model)


def open_model(generator: EdmGenerator, *, field: str = "generator.model") -> ModelFolder:
    """Find a model by embedded name, folder or Hub id, and pin its content.

    Args:
        generator: names the model.
        field: where the spec names it, for errors.

    Raises:
        SpecError: if it cannot be found or read, or is no model of this kind.
    """
    name = generator.model
    is_embedded = Path(name).name == name and (ASSETS / name / _INDEX).is_file()
    folder = ASSETS / name if is_embedded else Path(name).expanduser()
    if folder.is_dir():
        if generator.revision is not None:
            raise SpecError(
                f"generator.revision: is {generator.revision}, but {name} is a local folder; "
                "leave it out"
            )
        config = _read_config(folder / _INDEX, field)
        digest = folder_digest(folder, field=field)
        return ModelFolder(str(folder.resolve()), None, digest, config, is_embedded)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        embedded = sorted(path.parent.name for path in ASSETS.glob(f"*/{_INDEX}"))
        raise SpecError(
            f"{field}: {name} is no folder and no embedded model; embedded: {embedded}, "
            "or give a folder in diffusers' format or org/name on the Hugging Face Hub"
        )
    from huggingface_hub import hf_hub_download

    with hub_errors(name, field=field, instead="a folder in diffusers' format"):
        commit = hub_commit(name, generator.revision)
        index = Path(hf_hub_download(name, _INDEX, revision=commit))
    return ModelFolder(name, commit, commit, _read_config(index, field))


@contextmanager
def hub_errors(name: str, *, field: str, instead: str) -> Iterator[None]:
    """Within it, a repository that cannot be had from the Hub is a `SpecError`.

    Args:
        name: the repository.
        field: where the spec names it.
        instead: what the spec may name instead.
    """
    import httpx2  # huggingface_hub lets its transport errors through as they are
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        httpx2.TransportError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"{field}: {name} is no folder and cannot be had from the Hugging Face Hub ({reason}); "
            f"give {instead}"
        ) from None


def hub_commit(name: str, revision: str | None) -> str:
    """The commit that a revision of a model on the Hub is now."""
    from huggingface_hub import HfApi

    commit = HfApi().model_info(name, revision=revision).sha
    assert commit is not None
    return commit


def folder_digest(folder: Path, *, field: str) -> str:
    """sha256 over the names and contents of all that loading a model can read; hex.

    Raises:
        SpecError: if there are no weights, or a file cannot be read.
    """
    total = hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.suffix in _HASHED and p.is_file())
    if not any(path.suffix in _WEIGHTS for path in files):
        raise SpecError(f"{field}: {folder} holds no {' or '.join(_WEIGHTS)} weights")
    for path in files:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise SpecError(f"{field}: {path} cannot be read ({error.strerror})") from None
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def _read_config(path: Path, field: str) -> ModelConfig:
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SpecError(
            f"{field}: {path} cannot be read ({error.strerror}); a "
            "model folder in diffusers' format holds one"
        ) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise SpecError(
            f"{field}: {path} describes no EDM model ({wrong}); "
            "generator kind edm needs a folder as jobs/fit.py makes it"
        ) from None
