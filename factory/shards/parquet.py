"""Parquet shards that `datasets` reads as Image and ClassLabel, and any other reader plainly."""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from factory.shards.sample import PROVENANCE, Sample, check_samples

COLUMNS: Mapping[str, pa.DataType] = {
    # These two types exactly: `datasets` takes any other for a plain dict and integer, silently.
    "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    "label": pa.int64(),
    "class_name": pa.string(),
    "key": pa.string(),
}
"""The columns that every shard has, in order; those of provenance follow."""


def write_parquet(samples: Sequence[Sample], class_names: Sequence[str]) -> bytes:
    """One Parquet file of the samples, in their order; the same samples give the same bytes.

    pyarrow's version stands in the footer, so another version gives other bytes.

    Raises:
        ValueError: if the samples do not make a shard (see `check_samples`).
    """
    check_samples(samples, class_names)
    table = _table(samples, class_names)
    # Those of images would put whole images into the footer.
    with_statistics = [name for name in table.column_names if name != "image"]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        # A preview reads 100 rows, and fetches whole groups.
        row_group_size=100,
        # Also for images: PNG does not shrink, but its marks do, from 355 bytes to about 5.
        compression="zstd",
        # After zstd, dictionaries for so few rows only add their headers.
        use_dictionary=False,
        write_statistics=with_statistics,  # pyright: ignore[reportArgumentType] - lists are allowed
        write_page_index=True,
        write_page_checksum=True,
        # A shard that grows keeps the pages of its first images, and the Hub stores them once.
        use_content_defined_chunking=True,
    )
    return sink.getvalue().to_pybytes()


def _table(samples: Sequence[Sample], class_names: Sequence[str]) -> pa.Table:
    columns: dict[str, list[object]] = {
        "image": [{"bytes": s.image, "path": f"{s.key}.png"} for s in samples],
        "label": [s.label for s in samples],
        "class_name": [s.class_name for s in samples],
        "key": [s.key for s in samples],
    }
    types = dict(COLUMNS)
    for name, arrow_type in PROVENANCE.items():
        if name in samples[0].provenance:
            columns[name] = [s.provenance[name] for s in samples]
            types[name] = arrow_type
    metadata = {"huggingface": json.dumps({"info": {"features": _features(types, class_names)}})}
    return pa.table(columns, schema=pa.schema(list(types.items()), metadata=metadata))


def _features(
    types: Mapping[str, pa.DataType], class_names: Sequence[str]
) -> dict[str, dict[str, object]]:
    """The columns in the words of `datasets`."""
    features = {name: value_feature(arrow_type) for name, arrow_type in types.items()}
    features["image"] = {"_type": "Image"}
    features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    return features


def value_feature(arrow_type: pa.DataType) -> dict[str, object]:
    """A column of plain values in the words of `datasets`."""
    dtype = "float64" if arrow_type == pa.float64() else str(arrow_type)
    return {"dtype": dtype, "_type": "Value"}
