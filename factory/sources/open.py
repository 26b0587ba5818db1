"""Open a source, whatever it is kept in."""

from collections.abc import Mapping
from glob import glob
from pathlib import Path

from factory.records import SPEC_NAME, is_shard_file
from factory.sources.folder import open_folder
from factory.sources.hub import open_hub
from factory.sources.parquet import open_parquet
from factory.sources.parts import has_part, take_part
from factory.sources.root import open_root
from factory.sources.source import Source
from factory.sources.webdataset import open_webdataset
from factory.spec import SourceSpec, SpecError
from factory.store import Store

ASSETS = Path(__file__).parents[1] / "assets"


def open_source(spec: SourceSpec, *, images_per_class: Mapping[str, int] | None = None) -> Source:
    """Read a source: all of it, or the part that `spec` asks for.

    Args:
        spec: where it lies, how to convert its images, and which part to take.
        images_per_class: how many images of each class are needed, by name. Of a factory root no
            more are read: the first ones. Of anything else, and where `spec` takes a part (which
            is drawn from the whole), all are.

    Raises:
        SpecError: saying what cannot be read, or which image, label or column does not fit.
    """
    return take_part(_open(spec, None if has_part(spec) else images_per_class), spec)


def root_of(spec: SourceSpec) -> Store | None:
    """The root that the factory made, where a source is one."""
    if spec.path.startswith("hub:"):
        return None
    if "://" in spec.path:
        return Store(spec.path)
    path = Path(spec.path).expanduser()
    is_root = not _is_embedded(spec) and (path / SPEC_NAME).is_file()
    return Store(str(path.resolve())) if is_root else None


def _open(spec: SourceSpec, images_per_class: Mapping[str, int] | None) -> Source:
    kind, colon, rest = spec.path.partition(":")
    if kind == "hub" and colon:
        return open_hub(spec, rest)
    if spec.revision is not None:
        raise SpecError(
            f"revision: is {spec.revision}, but {spec.path} is not on the Hub; leave it out"
        )
    root = root_of(spec)
    if root is not None:
        return open_root(spec, root, images_per_class=images_per_class)
    if _is_embedded(spec):
        return _open_embedded(spec)
    path = Path(spec.path).expanduser()
    if path.is_dir():
        return _open_folder(spec, path)
    files = [path] if path.is_file() else [Path(f) for f in sorted(glob(str(path), recursive=True))]
    if files:
        return _open_files(spec, files, name=_name(path))
    raise _nothing_there(spec)


def _open_folder(spec: SourceSpec, folder: Path) -> Source:
    name = folder.resolve().name
    for pattern in ("*.parquet", "*.tar"):
        files = sorted(folder.glob(pattern))
        if files:
            return _open_files(spec, files, name=name)
    inner = folder / spec.split
    return open_folder(spec, inner if inner.is_dir() else folder, name=name)


def _open_files(spec: SourceSpec, files: list[Path], *, name: str) -> Source:
    if all(file.suffix == ".tar" for file in files):
        return open_webdataset(spec, files, name=name)
    return open_parquet(spec, files, name=name)


def _is_embedded(spec: SourceSpec) -> bool:
    return (ASSETS / spec.path / "train.parquet").is_file()


def _open_embedded(spec: SourceSpec) -> Source:
    file = ASSETS / spec.path / f"{spec.split}.parquet"
    if not file.is_file():
        splits = sorted(path.stem for path in file.parent.glob("*.parquet"))
        raise SpecError(f"split: {spec.path} has no split {spec.split}; it has {splits}")
    # The card's first lines are YAML, as on the Hub.
    licence = next(
        line.partition(":")[2].strip()
        for line in (file.parent / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("license:")
    )
    return open_parquet(spec, [file], name=spec.path, licence=licence)


def _nothing_there(spec: SourceSpec) -> SpecError:
    make = "make generate" if spec.path == "out" else f"python jobs/generate.py --root {spec.path}"
    embedded = sorted(path.parent.name for path in ASSETS.glob("*/train.parquet"))
    return SpecError(
        f"path: {spec.path} is no file, no folder and no embedded source; embedded: {embedded}; "
        "give one of these, Parquet files, WebDataset tars, an image folder, a root or its URL, or "
        f"hub:org/name{'' if is_shard_file(spec.path) else f', or make a dataset there: {make}'}"
    )


def _name(path: Path) -> str:
    # "fashion_mnist/train.parquet" is known by its folder and file, not by where that lies.
    return f"{path.resolve().parent.name}/{path.name}"
