"""Parquet shards in the hands of other readers."""

import io
import json
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Image, Value, load_dataset

from factory.images import decode_image, pixel_digest
from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard


@pytest.fixture(scope="module")
def shard(samples, class_names):
    return write_parquet(samples, class_names)


@pytest.fixture(scope="module")
def file(shard, tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "train-00012-3fa9c1d2.parquet"
    path.write_bytes(shard)
    return path


def test_datasets_reads_images_and_class_names(file, samples, class_names, tmp_path):
    dataset = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert dataset.features == Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(class_names)),
            "class_name": Value("string"),
            "key": Value("string"),
            "is_synthetic": Value("bool"),
            "source": Value("string"),
            "candidate": Value("int64"),
            "shard": Value("int64"),
            "seed": Value("int64"),
            "model_id": Value("string"),
            "model_revision": Value("string"),
            "scheduler": Value("string"),
            "num_inference_steps": Value("int32"),
            "guidance_scale": Value("float64"),
            "width": Value("int32"),
            "height": Value("int32"),
            "pixel_sha256": Value("string"),
        }
    )
    assert len(dataset) == len(samples)
    for row, sample in zip(dataset, samples, strict=True):
        assert np.array_equal(np.asarray(row["image"]), decode_image(sample.image)[:, :, 0])
        assert pixel_digest(np.asarray(row["image"])[:, :, None]) == row["pixel_sha256"]
        assert (row["key"], row["label"]) == (sample.key, sample.label)
        assert {name: row[name] for name in sample.provenance} == sample.provenance


def test_duckdb_counts_classes_in_plain_sql(file):
    query = f"select class_name, count(*) from '{file}' group by label, class_name order by label"
    rows = duckdb.sql(query).fetchall()
    assert rows == [("T-shirt/top", 84), ("Sneaker", 83), ("Ankle boot", 83)]


def test_pandas_reads_plain_columns(file, samples):
    frame = pd.read_parquet(file)
    assert frame["key"].tolist() == [sample.key for sample in samples]
    assert frame["seed"].tolist() == [sample.provenance["seed"] for sample in samples]
    assert frame["image"][7] == {"bytes": samples[7].image, "path": f"{samples[7].key}.png"}


def test_row_groups_hold_100_rows_with_page_index_and_no_image_in_the_footer(shard, samples):
    footer = pq.ParquetFile(pa.BufferReader(shard)).metadata
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    assert [group.num_rows for group in groups] == [100, 100, 50]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    assert all(column.has_offset_index for column in columns)
    for column in columns:
        assert column.is_stats_set == (not column.path_in_schema.startswith("image."))
    footer_size = int.from_bytes(shard[-8:-4], "little")
    assert samples[0].image not in shard[-8 - footer_size :]


def test_metadata_say_classes_and_nothing_of_when_or_where(shard, class_names):
    metadata = pq.read_metadata(io.BytesIO(shard)).metadata
    assert set(metadata) == {b"huggingface", b"ARROW:schema"}
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": list(class_names), "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"}
    assert features["guidance_scale"] == {"dtype": "float64", "_type": "Value"}


def test_longer_shard_begins_with_the_row_groups_of_the_shorter_one(samples, class_names):
    shorter, longer = (write_parquet(samples[:n], class_names) for n in (100, 250))
    first = pq.read_metadata(io.BytesIO(shorter)).row_group(0)
    last = first.column(first.num_columns - 1)
    end = last.data_page_offset + last.total_compressed_size
    assert longer[:end] == shorter[:end]


def test_longer_row_group_begins_with_the_pages_of_the_shorter_one(make_sample, class_names):
    contents = np.random.default_rng(0).bytes(100 * 10_000)
    images = [contents[start : start + 10_000] for start in range(0, len(contents), 10_000)]
    grown = [make_sample(index, image=image) for index, image in enumerate(images)]
    shorter, longer = (write_parquet(grown[:n], class_names) for n in (60, 100))
    assert shorter[:200_000] == longer[:200_000]


def test_mark_costs_next_to_nothing_in_a_shard(shard, samples):
    marked = sum(len(sample.image) for sample in samples)
    assert len(shard) < marked - 100 * len(samples)


def test_damaged_image_byte_is_found_by_the_page_checksum(shard):
    damaged = bytearray(shard)
    damaged[2000] ^= 1
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_shard(bytes(damaged), "parquet")


def test_file_with_other_columns_is_told_what_is_wrong():
    table = pa.table({"image": [b"x"], "label": [1], "caption": ["a boot"]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(ValueError, match=r"lacks class_name; lacks key; has caption.*image as bin"):
        read_shard(sink.getvalue(), "parquet")


@pytest.mark.parametrize("column", ["image", "label", "class_name", "key"])
def test_row_without_a_value_is_told_by_column(file, column):
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[3][column] = None
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    with pytest.raises(ValueError, match=f"without {column}"):
        read_shard(sink.getvalue().to_pybytes(), "parquet")


COUNT_THREADS = """
import os, sys
from factory.shards.reader import read_shard

data = open(sys.argv[1], "rb").read()
before = set(os.listdir("/proc/self/task"))
assert len(read_shard(data, "parquet")) == 250
print(len(set(os.listdir("/proc/self/task")) - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_reading_leaves_no_thread_that_could_abort_a_process_at_its_end(file):
    command = [sys.executable, "-c", COUNT_THREADS, str(file)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"0\n"
