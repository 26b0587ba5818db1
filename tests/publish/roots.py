"""What is published in tests: small roots, real images beside them, and results about them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from factory.evaluate.results import Estimate, MemorisationResult
from factory.images import encode_png
from factory.publish.checked import check_root
from factory.publish.facts import gather_facts
from factory.publish.layout import Layout, lay_out
from factory.publish.prepare import prepare
from factory.publish.run import run
from factory.shards.parquet import write_parquet
from factory.shards.sample import Sample
from factory.sources.promise import open_dataset
from factory.spec import PublishSpec, SourceSpec
from tests.conftest import CLASS_NAMES
from tests.publish.reports import make_evaluation, put_results

LICENCES = {"licence": "cc-by-4.0", "model_licence": "mit"}
UNMEASURED = {"evaluate": None, "accept": ["memorisation_missing"]}
FIELDS = {**LICENCES, **UNMEASURED}
"""What lets a root of the tiny model be published."""


def published(root: Path, folder: Path, **fields: object):
    """Report of the stage on a root; `fields` override `FIELDS`."""
    spec = PublishSpec.model_validate({"root": str(root), **FIELDS, **fields})
    return run(prepare(spec, str(folder)))


def laid_out(root: Path, folder: Path, **fields: object) -> Layout:
    """What would be pushed of a root; `fields` override `FIELDS`."""
    spec = PublishSpec.model_validate({"root": str(root), **FIELDS, **fields})
    opened = open_dataset(str(root))
    checked = check_root(opened)
    facts = gather_facts(spec, opened.dataset.store, checked.records, opened.dataset.plan)
    return lay_out(spec, opened.dataset, checked, facts, folder)


def save_real(
    path: Path, counts: tuple[int, ...] = (5, 3, 4), *, marks: Sequence[str | None] | None = None
) -> Path:
    """Random images of the tiny model's size and classes, with these marks, in a Parquet file."""
    generator = np.random.default_rng(0)
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    images = generator.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    samples = [
        Sample(f"r-{place}", encode_png(image, mark=mark, compress_level=1), label, name, {})
        for place, (image, label, mark) in enumerate(
            zip(images, labels, marks or [None] * len(labels), strict=True)
        )
        for name in [CLASS_NAMES[label]]
    ]
    path.write_bytes(write_parquet(samples, CLASS_NAMES))
    return path


def save_evaluation(
    folder: Path, root: Path, *, num_images: int | None = None, **found: object
) -> Path:
    """What jobs/evaluate.py leaves about a root, `found` being what it says of copies.

    Nothing found: it did not look for any. It looked at `num_images`; None: at all.
    """
    part = SourceSpec(path=str(root), num_images=num_images)
    report = make_evaluation(part)
    measured = report.datasets["synthetic"]
    memorisation = None
    if found:
        memorisation = MemorisationResult.model_validate(
            {
                "verdict": "no evidence",
                "reason": "",
                "extractor": "pixels",
                "num_exact": 0,
                "share": Estimate(value=0.01),
                "expected": 0.01,
                "limit": 0.05,
                "threshold": 0.5,
                "num_held_out": 10,
                "num_shared": 0,
                "pairs": (),
                **found,
            }
        )
    changed = measured.model_copy(update={"memorisation": memorisation})
    datasets = {**report.datasets, "synthetic": changed}
    return put_results(folder, report.model_copy(update={"datasets": datasets}), synthetic=part)
