"""Sources in Parquet files with an image column and a label column."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.sources.decode import EncodedImage, source_from_images
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError


def open_parquet(
    spec: SourceSpec, files: list[Path], *, name: str, licence: str | None = None
) -> Source:
    """Read `files` in order.

    The image column holds encoded bytes, or a struct of `bytes` and `path`; the label column
    integers from 0. Class names come from the files' `huggingface` metadata, else from `spec`,
    else are the numbers.

    Raises:
        SpecError: naming the file, and the columns present where one is missing.
    """
    tables = [_read(spec, file) for file in files]
    table = pa.concat_tables(table.replace_schema_metadata() for table in tables)
    declared = {_class_names(spec, table) for table in tables}
    if len(declared) > 1:
        raise SpecError(f"{name}: the files declare different class names; give files of one kind")
    return source_from_images(
        _images(table[spec.image_column], table[spec.label_column]),
        len(table),
        spec,
        name=name,
        class_names=declared.pop(),
        licence=licence,
    )


def _read(spec: SourceSpec, file: Path) -> pa.Table:
    try:
        schema = pq.read_schema(file)
        missing = [c for c in (spec.image_column, spec.label_column) if c not in schema.names]
        if missing:
            raise SpecError(
                f"{file}: has no column {' and no column '.join(missing)}; it has "
                f"{', '.join(schema.names)}; set image_column and label_column"
            )
        _check_types(spec, file, schema)
        return pq.read_table(file, columns=[spec.image_column, spec.label_column])
    except (OSError, pa.ArrowInvalid) as error:
        raise SpecError(f"{file}: cannot be read as Parquet ({error})") from None


def _check_types(spec: SourceSpec, file: Path, schema: pa.Schema) -> None:
    image, label = (schema.field(c).type for c in (spec.image_column, spec.label_column))
    is_struct = pa.types.is_struct(image) and any(field.name == "bytes" for field in image)
    if not is_struct and not pa.types.is_binary(image) and not pa.types.is_large_binary(image):
        raise SpecError(
            f"{file}: column {spec.image_column} is {image}, expected encoded images as binary or "
            "as struct<bytes, path>; set image_column"
        )
    if not pa.types.is_integer(label):
        raise SpecError(
            f"{file}: column {spec.label_column} is {label}, expected integers; set label_column"
        )


def _class_names(spec: SourceSpec, table: pa.Table) -> tuple[str, ...] | None:
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    features = json.loads(metadata).get("info", {}).get("features", {})
    names = features.get(spec.label_column, {}).get("names")
    return tuple(names) if names else None


def _images(images: pa.ChunkedArray, labels: pa.ChunkedArray) -> Iterator[EncodedImage]:
    for index, (cell, label) in enumerate(zip(images, labels, strict=True)):
        value = cell.as_py()
        path, data = (value["path"], value["bytes"]) if isinstance(value, dict) else (None, value)
        where = f"row {index}" + (f" ({path})" if path else "")
        yield EncodedImage(where, data or b"", label.as_py())
