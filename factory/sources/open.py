"""Open a real source, whatever it is kept in."""

from glob import glob
from pathlib import Path

from factory.sources.folder import open_folder
from factory.sources.hub import open_hub
from factory.sources.parquet import open_parquet
from factory.sources.source import Source, balanced_part
from factory.spec import RealSource, SpecError

ASSETS = Path(__file__).parents[1] / "assets"


def open_source(spec: RealSource) -> Source:
    """Read all images of a source, or the class-balanced part that `spec.num_images` asks for.

    Raises:
        SpecError: saying what cannot be read, or which image, label or column does not fit.
    """
    source = _open(spec)
    if spec.num_images is None:
        return source
    return balanced_part(source, spec.num_images, seed=spec.seed)


def _open(spec: RealSource) -> Source:
    kind, colon, rest = spec.path.partition(":")
    if kind == "hub" and colon:
        return open_hub(spec, rest)
    if spec.revision is not None:
        raise SpecError(
            f"revision: is {spec.revision}, but {spec.path} is not on the Hub; leave it out"
        )
    if (ASSETS / spec.path / "train.parquet").is_file():
        return _open_embedded(spec)
    path = Path(spec.path).expanduser()
    if path.is_file():
        return open_parquet(spec, [path], name=_name(path))
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if files:
            return open_parquet(spec, files, name=path.resolve().name)
        inner = path / spec.split
        folder = inner if inner.is_dir() else path
        return open_folder(folder, name=path.resolve().name, split=spec.split)
    files = [Path(file) for file in sorted(glob(str(path), recursive=True))]
    if files:
        return open_parquet(spec, files, name=_name(path))
    embedded = sorted(p.parent.name for p in ASSETS.glob("*/train.parquet"))
    raise SpecError(
        f"path: {spec.path} is no file, no folder and no embedded source; embedded: {embedded}, "
        "or give Parquet files, an image folder, or hub:org/name"
    )


def _open_embedded(spec: RealSource) -> Source:
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


def _name(path: Path) -> str:
    # "fashion_mnist/train.parquet" is known by its folder and file, not by where that lies.
    return f"{path.resolve().parent.name}/{path.name}"
