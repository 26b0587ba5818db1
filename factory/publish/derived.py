"""Configs beside the root's own: real images, and mixes of them with its synthetic ones."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from factory.images import encode_png, pixel_digest
from factory.publish.checked import read_again
from factory.publish.manifest import data_glob, published_path, shard_features
from factory.records import ShardRecord, shard_name
from factory.seeds import hash_seed
from factory.shards.manifest import PublishedConfig, PublishedFile
from factory.shards.parquet import write_parquet
from factory.shards.sample import PROVENANCE, ProvenanceValue, Sample
from factory.shards.webdataset import write_webdataset
from factory.sources.decode import size_in_words
from factory.sources.mix import mix_sources
from factory.sources.open import open_source, root_of
from factory.sources.parts import align
from factory.sources.promise import Dataset
from factory.sources.source import Source
from factory.spec import MixConfig, RealConfig, SourceSpec, SpecError


@dataclass(frozen=True)
class Derived:
    """Makes configs beside a root's: of its classes in its order, its format and shard size."""

    dataset: Dataset
    records: Mapping[int, ShardRecord]
    """Of the shards that are published."""
    folder: Path
    """Where the files go, by their paths in the repository."""

    def configs(self, more: Mapping[str, RealConfig | MixConfig]) -> Iterator[PublishedConfig]:
        """Write the files of each config; the same spec and root give the same bytes.

        Real images carry no mark and are called not synthetic; the synthetic images of a mix are
        those of the root, byte by byte. A mix is shuffled, so that its first images are one, too.

        Raises:
            SpecError: if a source cannot be had, is synthetic, does not fit the root, or holds too
                few images.
            JobError: if a shard is no longer what its record says.
        """
        sources = {
            name: self._open(name, config) for name, config in more.items() if config.kind == "real"
        }
        for name, config in more.items():
            match config:
                case RealConfig():
                    source = sources[name]
                    images = ((place, 0) for place in range(len(source)))
                    samples = (_real_sample(source, *image) for image in images)
                    yield self._write(name, "real", samples)
                case MixConfig():
                    samples = self._mix(name, config, sources[config.real])
                    yield self._write(name, "mix", samples)

    def _open(self, name: str, config: RealConfig) -> Source:
        try:
            return align(_open_real(config.source), self.dataset.plan.class_names)
        except SpecError as error:
            raise SpecError(f"more.{name}.source: {error}") from None

    def _mix(self, name: str, config: MixConfig, real: Source) -> Iterator[Sample]:
        labels = [sample.label for sample in self._samples()]
        # Which images a mix takes depends on labels alone.
        synthetic = replace(
            real,
            name=self.dataset.plan.name,
            images=np.empty((len(labels), 0, 0, 1), dtype=np.uint8),
            labels=np.array(labels, dtype=np.int64),
        )
        try:
            mixed = mix_sources(config.mix, real, synthetic, seed=config.seed)
        except SpecError as error:
            raise SpecError(f"more.{name}: {error}") from None
        chosen = set(mixed.synthetic.tolist())
        drawn = {n: sample for n, sample in enumerate(self._samples()) if n in chosen}
        _check_size(name, real, next(iter(drawn.values()), None))
        turns: Counter[int] = Counter()
        images: list[tuple[int, int] | int] = [*drawn]
        for place in mixed.real.tolist():
            images.append((place, turns[place]))
            turns[place] += 1
        columns = {name for sample in drawn.values() for name in sample.provenance}
        columns |= _real_sample(real, 0, 0).provenance.keys()
        order = np.random.default_rng(hash_seed(config.seed, "mix order")).permutation(len(images))
        for index in order.tolist():
            image = images[index]
            sample = drawn[image] if isinstance(image, int) else _real_sample(real, *image)
            yield replace(sample, provenance=_filled(sample.provenance, columns))

    def _samples(self) -> Iterator[Sample]:
        for samples in read_again(self.dataset, self.records):
            yield from samples

    def _write(
        self, name: str, kind: Literal["real", "mix"], samples: Iterable[Sample]
    ) -> PublishedConfig:
        plan, form = self.dataset.plan, self.dataset.format
        write = write_parquet if form == "parquet" else write_webdataset
        files: list[PublishedFile] = []
        counts: Counter[str] = Counter()
        num_synthetic, features = 0, {}
        remaining = iter(samples)
        while some := list(islice(remaining, plan.shard_size)):
            data = write(some, plan.class_names)
            features = features or shard_features(data, form, plan.class_names)
            files.append(self._put(name, len(files), data, num_samples=len(some)))
            counts.update(sample.class_name for sample in some)
            num_synthetic += sum(sample.provenance["is_synthetic"] is True for sample in some)
        return PublishedConfig(
            name=name,
            kind=kind,
            files=tuple(sorted(files, key=lambda file: file.path)),
            num_images=counts.total(),
            class_names=plan.class_names,
            class_counts={class_name: counts[class_name] for class_name in plan.class_names},
            num_synthetic=num_synthetic,
            num_real=counts.total() - num_synthetic,
            features=features,
            format="parquet" if form == "parquet" else "webdataset",
            data_glob=data_glob(name, form),
        )

    def _put(self, name: str, number: int, data: bytes, *, num_samples: int) -> PublishedFile:
        sha256 = hashlib.sha256(data).hexdigest()
        path = published_path(name, shard_name(number, sha256, self.dataset.format))
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return PublishedFile(path=path, sha256=sha256, num_bytes=len(data), num_samples=num_samples)


def _open_real(spec: SourceSpec) -> Source:
    root = root_of(spec)
    if root is not None:
        raise SpecError(
            f"root {root.url} holds images that a model has drawn, and those of kind real are "
            "called real; give real images, and publish that root on its own"
        )
    source = open_source(spec)
    if source.num_marked:
        raise SpecError(
            f"{source.num_marked} images of {source.name} (first: {source.first_marked}) carry the "
            "mark of images that a model has drawn, and those of kind real are called real; give "
            "real images"
        )
    return source


def _real_sample(source: Source, place: int, turn: int) -> Sample:
    """An image of a real source; `turn` counts how often it came before."""
    image, label = source.images[place], int(source.labels[place])
    height, width, _ = image.shape
    return Sample(
        key=f"real-{place:06d}" + (f"-{turn}" if turn else ""),
        image=encode_png(image, mark=None, compress_level=6),
        label=label,
        class_name=source.class_names[label],
        provenance={
            "is_synthetic": False,
            "source": source.name,
            "source_image": f"{source.digest}:{place}",
            "source_pass": turn,
            "width": width,
            "height": height,
            "pixel_sha256": pixel_digest(image),
        },
    )


def _filled(
    facts: Mapping[str, ProvenanceValue], columns: Iterable[str]
) -> dict[str, ProvenanceValue]:
    return {name: facts.get(name) for name in PROVENANCE if name in set(columns)}


def _check_size(name: str, real: Source, drawn: Sample | None) -> None:
    if drawn is None:
        return
    height, width = real.images.shape[1:3]
    facts = drawn.provenance
    if (facts["height"], facts["width"]) != (height, width):
        raise SpecError(
            f"more.{name}: its real images are {size_in_words(real.images.shape[1:])}, the "
            f"synthetic ones {facts['width']}x{facts['height']}; set image_size of the source of "
            f"{real.name}"
        )
