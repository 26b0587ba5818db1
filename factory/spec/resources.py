"""Where the work runs."""

from pydantic import Field

from factory.spec.read import Frozen


class Resources(Frozen):
    """Where the work runs. Never changes a byte, so it is no part of the fingerprint.

    What is said of an actor holds for a training of a classifier, which is a task of Ray.
    """

    min_actors: int = Field(default=1, ge=1)
    """Lower bound of the pool. It matters on a cluster above 64, which is where a pool begins there
    if there are as many tasks; on this machine a pool begins with all of its actors, and trainings
    of classifiers take no notice of it."""
    max_actors: int | None = Field(default=None, ge=1)
    """Upper bound of the pool; None: what this machine holds, on a cluster one for each task."""
    num_cpus: float | None = Field(default=None, gt=0)
    """CPUs reserved by one actor; None: the spec's `threads`, or 1 beside a GPU."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs reserved by one actor; None: 1 where the cluster has GPUs, else 0."""
    accelerator_type: str | None = None
    """Ray's name of the wanted accelerator, e.g. "H100"; None: any."""
    mix_devices: bool = False
    """Let actors on several kinds of device work on one root; its bytes then depend on which of
    them made which shard. Otherwise the first one to make a shard there decides."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of one actor's share of a machine for one hour, in your currency, for estimates."""
