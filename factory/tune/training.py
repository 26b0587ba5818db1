"""Trainings of a search as tasks of Ray."""

import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, WorkerCrashedError

from factory.classify.prepare import Prepared as PreparedComparison
from factory.classify.results import TrialRecord
from factory.cluster import ActorShape
from factory.spec import ClassifySpec, TuneSpec
from factory.tune.point import ARM, RealData
from factory.tune.shared import ATTEMPTS, Shared, Train
from factory.tune.space import Config, with_config
from factory.tune.tried import Progress, Score

_LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError)
"""What Ray raises of such a process: by itself, with its machine, or for want of memory."""
_Whose = TypeVar("_Whose")


def follow(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int
) -> Generator[Progress | Score]:
    """Have one classifier trained, and hand on what it tells; once closed, the training stops.

    Args:
        shared: of the search.
        spec: with the trial's configuration in it.
        images: root of its synthetic images; None: it takes none.
        seed: number of the training.
    """
    if spec.num_workers > 1:
        yield from train_wide(
            shared, spec, images, seed, is_watched=spec.search.scheduler != "none"
        )
        return
    task = ray.remote(follow_training).options(
        **_training_options(spec),
        # A training whose process dies goes on from its checkpoint, with fewer rows than at first.
        max_retries=0,
        num_returns="streaming",
        # Outside of the little that the trial itself reserves.
        scheduling_strategy="DEFAULT",
    )
    for attempt in range(1, ATTEMPTS + 1):
        rows: ray.ObjectRefGenerator = task.remote(shared, spec, images, seed)
        try:
            for row in rows:
                yield ray.get(row)
            return
        except _LOST:
            if attempt == ATTEMPTS:
                raise
        finally:
            # A training that the scheduler stops would go on: this process lives for the next.
            ray.cancel(rows)


def train_again(
    shared: Shared, trials: Sequence[tuple[Config, str | None]], seeds: Sequence[int]
) -> Iterator[tuple[int, int, Score | Exception]]:
    """Train configurations with fresh seeds, as many at once as there is room for.

    Args:
        shared: of the search.
        trials: configuration, and root of its synthetic images.
        seeds: of each of them.

    Yields:
        Place in `trials`, seed, and the score or why there is none; in the order in which they end.
    """
    spec = shared.spec
    tasks = [(place, seed) for seed in seeds for place in range(len(trials))]
    if spec.num_workers > 1:
        from ray.train import TrainingFailedError  # a second that only several workers need

        for place, seed in tasks:
            config, images = trials[place]
            try:
                *_, score = train_wide(shared, with_config(spec, config), images, seed)
                assert isinstance(score, Score)
                yield place, seed, score
            except TrainingFailedError as error:
                yield place, seed, error
        return
    asked = {
        (place, seed): (shared, with_config(spec, trials[place][0]), trials[place][1], seed)
        for place, seed in tasks
    }
    for (place, seed), score in _in_trained_processes(_score, spec, asked):
        yield place, seed, score


def train_arms(
    prepared: PreparedComparison, pending: list[tuple[str, int]]
) -> Iterator[TrialRecord | tuple[str, str]]:
    """Train arms of the final comparison in the processes of the search, as `TrainAll` says."""
    spec, needed = prepared.spec, [ray.put((prepared.sources, prepared.arms))]
    asked = {(arm, seed): (spec, prepared.root, needed, arm, seed) for arm, seed in pending}
    for (arm, seed), record in _in_trained_processes(_train_arm, spec, asked):
        if isinstance(record, Exception):
            yield f"{arm}, seed {seed}", reason_of(record)
        else:
            yield record


def _in_trained_processes(
    function: Callable[..., Any],
    spec: TuneSpec | ClassifySpec,
    asked: Mapping[tuple[_Whose, int], tuple[object, ...]],
) -> Iterator[tuple[tuple[_Whose, int], Any | RayError]]:
    """Whose training it was and with which seed, and its result or why there is none.

    Args:
        function: trains one.
        spec: says on what, and how many at once.
        asked: whose training and which seed -> arguments of `function`.
    """
    task = ray.remote(function).options(
        **_training_options(spec), max_retries=ATTEMPTS - 1, runtime_env=_trial_env()
    )
    left, waiting = iter(asked.items()), {}
    most = spec.resources.max_actors or len(asked)
    while True:
        for training, args in islice(left, most - len(waiting)):
            waiting[task.remote(*args)] = training
        if not waiting:
            return
        (ended,), _ = ray.wait(list(waiting))
        training = waiting.pop(ended)
        try:
            yield training, ray.get(ended)
        except RayError as error:
            yield training, error


def _trial_env() -> dict[str, dict[str, str]]:
    """What Ray Tune gives its trials, and so the trainings that they start.

    Only tasks of the same environment go on in the same processes, which have imported everything.
    """
    from ray.tune.execution.class_cache import DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE

    handed_on = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
    return {"env_vars": DEFAULT_ENV_VARS | handed_on}


def _training_options(spec: TuneSpec | ClassifySpec) -> dict[str, Any]:
    shape = ActorShape(spec.resources, threads=spec.threads)
    return {
        "num_cpus": shape.num_cpus,
        "num_gpus": shape.num_gpus,
        "accelerator_type": shape.accelerator_type,
    }


def _score(shared: Shared, spec: TuneSpec, images: str | None, seed: int) -> Score:
    *_, last = follow_training(shared, spec, images, seed)
    assert isinstance(last, Score)
    return last


def _train_arm(
    spec: ClassifySpec, root: str, needed: list[ray.ObjectRef], arm: str, seed: int
) -> TrialRecord:
    from factory.classify.trial import Trial  # torch: trials do without it
    from factory.diffusion.device import pick_device

    sources, arms = ray.get(needed[0])
    record = Trial(spec, root, sources, arms)(arm, seed, pick_device())
    assert record is not None
    return record


def follow_training(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int
) -> Iterator[Progress | Score]:
    """Train one classifier in this process, as `Train` says."""
    # Ray cancels by SIGINT, which all that a script starts in its background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data, train = _needed(shared)
    yield from train(spec, shared.root, data, images, seed)


def _needed(shared: Shared) -> tuple[RealData, Train]:
    # One copy on each machine: arrays in the object store are mapped, not copied.
    return ray.get(shared.needed[0])


def train_wide(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int, *, is_watched: bool = False
) -> Iterator[Progress | Score]:
    """One training on several workers of Ray Train, which tell Tune themselves how far they are."""
    # Seconds of importing that a process which trains by itself does not need.
    from ray.tune.integration.ray_train import TuneReportCallback

    from factory.classify.run import train_on_workers
    from factory.tune.trial import prepare_trial

    data, _ = _needed(shared)
    trial = prepare_trial(spec, shared.root, data, images)
    record = trial.recorded(seed)
    if record is not None:
        yield from trial.replay(record)
        return
    record = train_on_workers(
        trial.comparison,
        trial.root,
        trial.arm,
        seed,
        shared=[ray.put((trial.sources, {ARM: trial.arm}))],
        callbacks=[TuneReportCallback()] if is_watched else [],
    )
    yield trial.score(record)


def reason_of(error: Exception) -> str:
    """The message of what was raised where the work was done."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}"
