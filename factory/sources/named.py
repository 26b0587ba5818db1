"""Sources as the fields of a spec name them: what is refused says which field it is."""

from collections.abc import Mapping

from factory.sources.decode import size_in_words
from factory.sources.open import open_source
from factory.sources.parts import align
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError


def open_named(
    field: str, spec: SourceSpec, *, images_per_class: Mapping[str, int] | None = None
) -> Source:
    """As `open_source`; errors begin with the field."""
    try:
        return open_source(spec, images_per_class=images_per_class)
    except SpecError as error:
        raise SpecError(f"{field}: {error}") from None


def align_named(field: str, source: Source, real: Source, *, remedy: str = "") -> Source:
    """`source` with its labels in the order of `real`'s.

    Raises:
        SpecError: beginning with the field and ending with `remedy`, if the class names differ.
    """
    try:
        return align(source, real.class_names)
    except SpecError as error:
        raise SpecError(f"{field}: {error}{remedy}") from None


def fit_named(field: str, source: Source, real: Source) -> Source:
    """`source` with its labels in the order of `real`'s, checked to have images of its size.

    Raises:
        SpecError: beginning with the field, if class names or sizes differ.
    """
    aligned = align_named(field, source, real)
    check_size(field, aligned, real)
    return aligned


def check_size(field: str, source: Source, real: Source) -> None:
    """Refuse images of another size or of other channels than `real`'s.

    Raises:
        SpecError: with both.
    """
    if source.images.shape[1:] != real.images.shape[1:]:
        raise SpecError(
            f"{field}: images of {source.name} are {size_in_words(source.images.shape[1:])}, but "
            f"those of {real.name} are {size_in_words(real.images.shape[1:])}; "
            f"set image_size and channels of {field}, or of real"
        )
