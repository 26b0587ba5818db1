"""Sources as image folders: one subfolder a class."""

from pathlib import Path

from factory.sources.decode import EncodedImage, source_from_images
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def open_folder(spec: SourceSpec, folder: Path, *, name: str) -> Source:
    """Read every image below `folder`; classes and files in the order of their names.

    Raises:
        SpecError: naming the classes without an image.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    files = [(label, file) for label, path in enumerate(classes) for file in _image_files(path)]
    labels = {label for label, _ in files}
    empty = [path.name for label, path in enumerate(classes) if label not in labels]
    if empty:
        raise SpecError(
            f"{folder}: no images in {', '.join(empty)}; "
            "an image folder holds one folder with images for each class"
        )
    if not classes:
        raise SpecError(
            f"{folder}: holds no Parquet files, no .tar files and no folders of images; give "
            f"another path, or make a dataset there: python jobs/generate.py --root {folder}"
        )
    return source_from_images(
        (
            EncodedImage(file.relative_to(folder).as_posix(), file.read_bytes(), label)
            for label, file in files
        ),
        len(files),
        spec,
        name=name,
        class_names=tuple(path.name for path in classes),
    )


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
