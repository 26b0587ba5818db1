"""Images a second and a core through the PNG encoder and the shard writers and readers.

`python benchmarks/encode.py IMAGES.parquet` takes the first 250 images of a Parquet file with a
column `image`, and prints one JSON line a measurement.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from factory.images import TRAINED_ALGORITHMIC_MEDIA, decode_image, encode_png, pixel_digest
from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard
from factory.shards.sample import Sample
from factory.shards.webdataset import write_webdataset

NUM_IMAGES = 250
SECONDS = 2.0


def main() -> None:
    """Measure each step on the images of one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", metavar="IMAGES.parquet")
    images = read_images(parser.parse_args().images)
    print(json.dumps({"images": len(images), "shape": images[0].shape}))
    for level in (1, 6, 9):
        pngs = [encode(image, level) for image in images]
        for threads in (1, 2, 4):
            rate = encoding_rate(images, level, threads)
            report(f"encode level {level}, {threads} threads", rate, pngs)
    for mark in (None, TRAINED_ALGORITHMIC_MEDIA):
        pngs = [encode_png(image, mark=mark, compress_level=6) for image in images]
        report(f"decode, mark {mark}", images_a_second(lambda p=pngs: list(map(decode_image, p))))
        measure_shards(images, pngs, str(mark))


def measure_shards(images: list[NDArray[np.uint8]], pngs: list[bytes], mark: str) -> None:
    """Write and read one shard of each format."""
    samples = [
        Sample(
            key=f"cat-00000-{index:06d}",
            image=png,
            label=0,
            class_name="cat",
            provenance={"seed": index, "pixel_sha256": pixel_digest(image)},
        )
        for index, (image, png) in enumerate(zip(images, pngs, strict=True))
    ]
    for form, write in (("parquet", write_parquet), ("webdataset", write_webdataset)):
        shard = write(samples, ["cat"])
        writing = images_a_second(lambda w=write: w(samples, ["cat"]))
        report(f"write {form}, mark {mark}", writing, [shard])
        report(
            f"read {form}, mark {mark}", images_a_second(lambda s=shard, f=form: read_shard(s, f))
        )


def read_images(path: str) -> list[NDArray[np.uint8]]:
    """The first images of a Parquet file, each uint8 [H, W, C]."""
    rows = pq.read_table(path, columns=["image"]).slice(0, NUM_IMAGES).to_pylist()
    if len(rows) < NUM_IMAGES:
        raise ValueError(f"{path}: holds {len(rows)} images; give at least {NUM_IMAGES}")
    return [decode_image(row["image"]["bytes"]) for row in rows]


def encode(image: NDArray[np.uint8], level: int) -> bytes:
    """As `generate` encodes."""
    return encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=level)


def encoding_rate(images: list[NDArray[np.uint8]], level: int, threads: int) -> float:
    """Images a second over all threads."""
    parts = [images[start::threads] for start in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return images_a_second(
            lambda: list(pool.map(lambda part: [encode(image, level) for image in part], parts))
        )


def images_a_second(work: Callable[[], object]) -> float:
    """Repeat `work` on `NUM_IMAGES` images for `SECONDS`."""
    work()
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        work()
        rounds += 1
    return NUM_IMAGES * rounds / (time.perf_counter() - started)


def report(step: str, rate: float, written: list[bytes] | None = None) -> None:
    """One JSON line: images a second and, where bytes were made, bytes an image."""
    line = {"step": step, "images_per_second": round(rate)}
    if written is not None:
        line["bytes_per_image"] = round(sum(map(len, written)) / NUM_IMAGES)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
