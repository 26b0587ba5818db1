"""Do the measures of jobs/evaluate.py move as theory says when real images are spoiled?

`python benchmarks/sanity.py FOLDER [--images N] [--work FOLDER]` takes N real training images of
FOLDER/train.parquet and N test images of FOLDER/test.parquet, spoils copies of the latter in ways
whose effect is known, evaluates all of them, and prints a Markdown table.
"""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from factory.evaluate.prepare import prepare
from factory.evaluate.results import DatasetResult
from factory.evaluate.run import run
from factory.sources.open import open_source
from factory.sources.source import Source
from factory.spec import EvaluateSpec, SourceSpec


def main() -> None:
    """Spoil, evaluate, and print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_500)
    parser.add_argument("--work", type=Path, default=Path("results/sanity"))
    args = parser.parse_args()
    name = args.folder.name
    real = SourceSpec(path=str(args.folder / "train.parquet"), num_images=args.images)
    test = SourceSpec(path=str(args.folder / "test.parquet"), num_images=args.images)
    clean, train = open_source(test), open_source(real)
    ways: dict[str, Source] = {
        "training images again": train,
        "noise of 10 grey levels": noise(clean, 10),
        "noise of 40 grey levels": noise(clean, 40),
        "blur of 0.5 px": each(clean, lambda image: image.filter(ImageFilter.GaussianBlur(0.5))),
        "blur of 1.5 px": each(clean, lambda image: image.filter(ImageFilter.GaussianBlur(1.5))),
        "JPEG of quality 50": each(clean, lambda image: jpeg(image, 50)),
        "JPEG of quality 5": each(clean, lambda image: jpeg(image, 5)),
        "half of the classes alone": clean.take(np.flatnonzero(clean.labels < 5)),
        "ten images a class repeated": repeated(clean, 10),
        "labels shuffled": shuffled(clean),
    }
    spec = EvaluateSpec(
        name=f"sanity_{name}",
        real=real,
        held_out=test,
        synthetic={
            way: SourceSpec(path=str(save(source, args.work / name / f"{number}.parquet")))
            for number, (way, source) in enumerate(ways.items())
        },
    )
    report = run(prepare(spec, str((args.work / name / "report").resolve())))
    print("| images | Frechet | kernel x 1000 | precision | recall | agreement | entropy "
          "| told by pixels | told by DCT | exact copies |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for way, found in report.datasets.items():
        print(f"| {way} | {row(found)} |")


def row(found: DatasetResult) -> str:
    """Cells of a dataset."""
    likeness = next(iter(found.extractors.values())).overall
    assert likeness.kernel_distance is not None
    assert found.classifier is not None
    told = [found.detection.get(domain) for domain in ("pixel", "dct")]
    copies = "" if found.memorisation is None else f"{found.memorisation.num_exact}"
    return " | ".join(
        [
            f"{likeness.frechet_distance:.1f}",
            f"{1000 * likeness.kernel_distance.value:.2f}",
            f"{likeness.precision:.3f}",
            f"{likeness.recall:.3f}",
            f"{found.classifier.agreement.value:.3f}",
            f"{found.classifier.entropy.value:.3f}",
            *("" if result is None else f"{result.accuracy.value:.3f}" for result in told),
            copies,
        ]
    )


def noise(source: Source, deviation: float) -> Source:
    """Normal noise of a standard deviation in grey levels."""
    drawn = np.random.default_rng(0).normal(0, deviation, source.images.shape)
    return replace(source, images=np.rint(source.images + drawn).clip(0, 255).astype(np.uint8))


def each(source: Source, change: Callable[[Image.Image], Image.Image]) -> Source:
    """Every image as Pillow changes it."""
    shape = source.images.shape[1:]
    changed = [np.asarray(change(picture(image))).reshape(shape) for image in source.images]
    return replace(source, images=np.stack(changed))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Through a JPEG file and back."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def repeated(source: Source, num_images: int) -> Source:
    """The first images of each class, again and again."""
    places = np.empty(len(source), dtype=np.int64)
    for label in range(len(source.class_names)):
        own = np.flatnonzero(source.labels == label)
        places[own] = np.resize(own[:num_images], len(own))
    return source.take(places)


def shuffled(source: Source) -> Source:
    """The same images under each other's labels."""
    return replace(source, labels=np.random.default_rng(0).permutation(source.labels))


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """An image uint8 [H, W, C] as Pillow has it."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def save(source: Source, path: Path) -> Path:
    """Write a source as one Parquet file as the Hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for image in source.images:
        file = io.BytesIO()
        picture(image).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(source.class_names)},
    }
    images = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": images, "label": source.labels})
    info = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": info}), path)
    return path


if __name__ == "__main__":
    main()
