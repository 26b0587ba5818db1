"""Connect to Ray quietly, and size pools of actors by what the cluster holds."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

from factory.spec import Resources, SpecError

LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
"""Images never travel through the object store, so a local instance needs little of it."""


@contextmanager
def connect(address: str | None) -> Iterator[None]:
    """A connection to Ray; one that this call made is closed at the end.

    Args:
        address: cluster to join; None: the one named by RAY_ADDRESS (as in a submitted job), else
            a private instance on this machine. An existing connection is used as it is.

    Raises:
        SpecError: if the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    options = {}
    if target == "local":
        options = {
            "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(address=target, logging_level=logging.ERROR, log_to_driver=False, **options)
    except ConnectionError as error:
        raise SpecError(f"--address {target}: no Ray cluster answers ({error})") from None
    try:
        yield
    finally:
        ray.shutdown()


def quiet_ray_data() -> None:
    """Keep Ray Data's bars and banners out of our progress; its errors still rise."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


class ActorShape:
    """What one actor reserves, and how many of them the cluster holds at the moment."""

    def __init__(self, resources: Resources, *, threads: int) -> None:
        """Fill what `resources` leaves open from the cluster; needs a connection.

        Raises:
            SpecError: if not even one actor would fit.
        """
        cluster = ray.cluster_resources()
        gpus_here = cluster.get("GPU", 0)
        self.num_gpus = resources.num_gpus
        if self.num_gpus is None:
            self.num_gpus = 1.0 if gpus_here else 0.0
        self.num_cpus = resources.num_cpus
        if self.num_cpus is None:
            self.num_cpus = 1.0 if self.num_gpus else float(min(threads, cluster["CPU"]))
        fits = [int(cluster.get("CPU", 0) / self.num_cpus)]
        if self.num_gpus:
            fits.append(int(gpus_here / self.num_gpus))
        self.capacity = max(1, min(fits))
        self.accelerator_type = resources.accelerator_type

    def pool(self, resources: Resources, *, num_tasks: int) -> tuple[int, int]:
        """Smallest and largest size of a pool for `num_tasks`: never more actors than tasks."""
        largest = min(resources.max_actors or self.capacity, num_tasks)
        return min(resources.min_actors, largest), largest
