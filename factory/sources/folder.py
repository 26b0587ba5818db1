"""Real sources as image folders: one subfolder a class."""

from pathlib import Path

from factory.sources.decode import source_from_images
from factory.sources.source import Source
from factory.spec import SpecError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def open_folder(folder: Path, *, name: str, split: str) -> Source:
    """Read every image below `folder`; classes and files in the order of their names.

    Raises:
        SpecError: naming the classes without an image.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    files = [(label, file) for label, path in enumerate(classes) for file in _image_files(path)]
    labels = [label for label, _ in files]
    empty = [path.name for label, path in enumerate(classes) if label not in set(labels)]
    if empty or not classes:
        raise SpecError(
            f"{folder}: "
            + (f"no images in {', '.join(empty)}" if empty else "holds no Parquet and no folders")
            + "; an image folder holds one folder with images for each class"
        )
    return source_from_images(
        ((str(file.relative_to(folder)), file.read_bytes()) for _, file in files),
        labels,
        name=name,
        split=split,
        class_names=tuple(path.name for path in classes),
    )


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
