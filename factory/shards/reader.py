"""Samples from the bytes of a shard of either format, with every type as it was written."""

import io
import itertools
import json
import tarfile
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from factory.shards.parquet import COLUMNS
from factory.shards.sample import PROVENANCE, Sample
from factory.shards.webdataset import MEMBERS


def read_shard(data: bytes, format: str) -> tuple[Sample, ...]:
    """The samples that `write_parquet` or `write_webdataset` was given, in their order.

    Images are not decoded.

    Args:
        data: the whole file.
        format: "parquet" or "webdataset".

    Raises:
        ValueError: if the bytes are cut, damaged, or no shard of that format; naming what is wrong.
    """
    match format:
        case "parquet":
            return _read_parquet(data)
        case "webdataset":
            return _read_webdataset(data)
        case _:
            raise ValueError(f"format is {format!r}; give 'parquet' or 'webdataset'")


def _read_parquet(data: bytes) -> tuple[Sample, ...]:
    try:
        # No thread of Arrow's may hold `data`: one that lets go of it while Python ends aborts the
        # process (apache/arrow#34314).
        file = pq.ParquetFile(
            pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True
        )
        table = file.read(use_threads=False)
        names, rows = table.column_names, table.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"shard of {len(data)} bytes cannot be read as Parquet: {error}") from None
    _check_schema(table.schema)
    _check_values(table)
    told = [name for name in PROVENANCE if name in names]
    return tuple(
        Sample(
            key=row["key"],
            image=row["image"]["bytes"],
            label=row["label"],
            class_name=row["class_name"],
            provenance={name: row[name] for name in told},
        )
        for row in rows
    )


def _check_schema(schema: pa.Schema) -> None:
    known = {**COLUMNS, **PROVENANCE}
    got = dict(zip(schema.names, schema.types, strict=True))
    wrong = [f"lacks {name}" for name in COLUMNS if name not in got]
    wrong += [f"has {name}, which is no column of a shard" for name in got if name not in known]
    wrong += [
        f"has {name} as {got[name]}, expected {known[name]}"
        for name in got
        if name in known and got[name] != known[name]
    ]
    if wrong:
        raise ValueError(f"Parquet file is no shard: it {'; '.join(wrong)}")


def _check_values(table: pa.Table) -> None:
    flat = table.flatten()
    names = ["image.bytes", *(name for name in COLUMNS if name != "image")]
    empty = [name for name in names if flat[name].null_count]
    if empty:
        raise ValueError(f"Parquet file is no shard: it has rows without {', '.join(empty)}")


def _read_webdataset(data: bytes) -> tuple[Sample, ...]:
    members = _members(data)
    groups = itertools.groupby(members, key=lambda name: name.partition(".")[0])
    return tuple(
        _sample(key, {name.partition(".")[2]: members[name] for name in names})
        for key, names in groups
    )


def _members(data: bytes) -> dict[str, bytes]:
    """Name -> content of the files of a tar, in order."""
    members: dict[str, bytes] = {}
    end = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None or member.name in members:
                    raise ValueError(f"tar holds {member.name} twice, or not as a file")
                members[member.name] = content.read()
                end = member.offset_data + -(-member.size // 512) * 512
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"shard of {len(data)} bytes cannot be read as tar: {error}") from None
    # tarfile takes a damaged header, and a cut between members, for the end of the archive.
    rest = data[end:]
    if len(rest) < 1024 or rest.strip(b"\0"):
        raise ValueError(
            f"shard of {len(data)} bytes cannot be read as tar: "
            f"after member {len(members)} comes neither another one nor the end mark"
        )
    return members


def _sample(key: str, parts: Mapping[str, bytes]) -> Sample:
    if sorted(parts) != list(MEMBERS):
        raise ValueError(f"sample {key}: has members {sorted(parts)}, expected {list(MEMBERS)}")
    try:
        label = int(parts["cls"])
        facts = json.loads(parts["json"])
        class_name = facts.pop("class_name")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"sample {key}: .cls must hold a number and .json an object with class_name; {error!r}"
        ) from None
    unknown = sorted(facts.keys() - PROVENANCE.keys())
    if unknown:
        raise ValueError(f"sample {key}: .json has {unknown}; known are {list(PROVENANCE)}")
    provenance = {name: facts[name] for name in PROVENANCE if name in facts}
    return Sample(key, parts["png"], label, class_name, provenance)
