"""What the processes of a search share; none of them imports more than its own work needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray

from factory.records import ASKED_NAME
from factory.sources.mix import most_of_each
from factory.spec import GenerateSpec, TuneSpec
from factory.store import Store
from factory.tune.point import SEARCH_FOLDER, RealData, images_needed, images_spec
from factory.tune.prepare import Dataset, Prepared, images_ahead, images_key, in_whole_shards
from factory.tune.space import Config, with_config
from factory.tune.tried import Progress, Score

ATTEMPTS = 3
"""Times that the making of a dataset is begun whose process dies."""

Train = Callable[[TuneSpec, str, RealData, str | None, int], Iterator[Progress | Score]]
"""As `trial.train`."""
Make = Callable[[GenerateSpec, str], int]
"""As `make.make_images`."""


class _Maker:
    """The one process that has images drawn: requests are served in the order of their coming."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._drawn = 0

    def make(self, asked: str, root: str) -> None:
        """Make what is missing of the dataset `asked`, a `GenerateSpec` as JSON."""
        self._drawn += self._make(GenerateSpec.model_validate_json(asked), root)

    def drawn(self) -> int:
        """Images drawn so far, since the process was started the last time."""
        return self._drawn


@dataclass(frozen=True)
class Shared:
    """What the processes of a search share."""

    spec: TuneSpec
    root: str
    needed: list[ray.ObjectRef]
    """Reference to what a training needs, the real images and `Train`, in a list so that it is
    handed on as it is: a trial, which only waits, imports none of it."""
    class_counts: dict[str, int]
    """Real images of each class that the search trains with."""
    datasets: dict[str, Dataset]
    """`images_key` of a configuration -> its images."""
    ahead: dict[str, dict[str, int]]
    """`images_key` of a configuration -> images of each class that are made at once, since they
    will all be needed: a pool of actors may take longer to start than a trial to train."""
    maker: Any
    """Handle of the `_Maker`."""

    def images(self, config: Config, class_counts: dict[str, int]) -> str | None:
        """Root of the configuration's images, once there are enough; None if it takes none.

        Args:
            config: the configuration; an empty one is the default mix.
            class_counts: real images of each class that they are mixed with.
        """
        spec = with_config(self.spec, config)
        needed = images_needed(spec, class_counts)
        if not needed:
            return None
        key = images_key(config)
        dataset, counts = self.datasets[key], most_of_each([needed, self.ahead.get(key, {})])
        if self.spec.search.searcher != "grid":
            counts = in_whole_shards(counts, dataset)
        asked = images_spec(spec, counts)
        ray.get(self.maker.make.remote(asked.model_dump_json(), dataset.folder))
        return dataset.folder


def share(prepared: Prepared, make: Make, train: Train) -> Shared:
    """Put the real images into the object store, and start the process that has images drawn.

    What is asked is put into the root; by it trainings know that they see the driver's root.

    Args:
        prepared: the search.
        make: makes datasets.
        train: trains one classifier.
    """
    store, asked = Store(prepared.root), prepared.spec.model_dump_json(indent=1).encode()
    for name in (ASKED_NAME, f"{SEARCH_FOLDER}/{ASKED_NAME}"):
        store.put(name, asked)
    datasets = {
        key: prepared.datasets[fingerprint] for key, fingerprint in prepared.fingerprints.items()
    }
    # What is done of a dataset stays, so that a request can be made again.
    most = ATTEMPTS - 1
    maker = ray.remote(num_cpus=0, max_restarts=most, max_task_retries=most)(_Maker).remote(make)
    return Shared(
        spec=prepared.spec,
        root=prepared.root,
        needed=[ray.put((prepared.data, train))],
        class_counts=prepared.data.real.class_counts,
        datasets=datasets,
        ahead=images_ahead(prepared.spec, prepared.data.real.class_counts),
        maker=maker,
    )
