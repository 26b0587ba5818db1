"""Sources on the Hugging Face Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from factory.sources.decode import EncodedImage, source_from_images
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError

if TYPE_CHECKING:
    from datasets import Dataset


def open_hub(spec: SourceSpec, repository: str) -> Source:
    """Read split `spec.split` of a dataset at `spec.revision`.

    Raises:
        SpecError: if the extra is not installed, the dataset cannot be had, or a column is
            missing or of another kind.
    """
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise SpecError(
            f"hub:{repository}: needs the package datasets; pip install 'factory[hub]', "
            "or give the path of local files"
        ) from None
    try:
        dataset = datasets.load_dataset(repository, split=spec.split, revision=spec.revision)
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"hub:{repository}: split {spec.split} cannot be had ({reason}); "
            "give the path of local files"
        ) from None
    label = dataset.features.get(spec.label_column)
    image = dataset.features.get(spec.image_column)
    if not isinstance(label, datasets.ClassLabel) or not isinstance(image, datasets.Image):
        kinds = ", ".join(f"{name} ({kind})" for name, kind in dataset.features.items())
        raise SpecError(
            f"hub:{repository}: expected an Image in column {spec.image_column} and a ClassLabel "
            f"in {spec.label_column}, got {kinds}; set image_column and label_column"
        )
    return source_from_images(
        _images(dataset.cast_column(spec.image_column, datasets.Image(decode=False)), spec),
        len(dataset),
        spec,
        name=repository,
        class_names=tuple(label.names),
        licence=dataset.info.license or None,
    )


def _images(dataset: "Dataset", spec: SourceSpec) -> Iterator[EncodedImage]:
    labels = dataset[spec.label_column][:]
    for index, (cell, label) in enumerate(zip(dataset[spec.image_column], labels, strict=True)):
        # A dataset of plain files holds their paths instead of their bytes.
        data = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        yield EncodedImage(f"row {index}", data, label)
