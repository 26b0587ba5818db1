"""Connect to Ray quietly, and size pools of actors by what the cluster holds."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

from factory.spec import Resources, SpecError

LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
"""Images never travel through the object store, so a local instance needs little of it."""
ANSWER_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""


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
    _check_answers(target)
    options = {}
    if target == "local":
        options = {
            "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    # Ray's core calls a detail of Ray Data's actor pools an error; failures arrive as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _silent_stderr():
            ray.init(address=target, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(target, error) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    # The core announces its log level on file descriptor 2, whatever that level is.
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_answers(target: str) -> None:
    # Ray itself would knock for over a minute where nothing listens.
    host, colon, port = target.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(target, error) from None


def _no_cluster(target: str, error: Exception) -> SpecError:
    return SpecError(
        f"--address {target}: no Ray cluster answers ({error}); give HOST:PORT of a head started "
        "by `ray start --head`, or unset --address and RAY_ADDRESS to use this machine alone"
    )


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
