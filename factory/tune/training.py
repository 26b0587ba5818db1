"""Trainings of a search as tasks of Ray."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence

import ray

from factory.cluster import LOST, MOST_DEATHS, ActorShape, count_deaths, run_tasks
from factory.spec import TuneSpec
from factory.tune.point import ARM, RealData
from factory.tune.shared import Shared, Train
from factory.tune.space import Config, with_config
from factory.tune.tried import Progress, Score


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
    task = ray.remote(
        **ActorShape(spec.resources, threads=spec.threads).options,
        # A training whose process dies goes on from its checkpoint, with fewer rows than at first.
        max_retries=0,
        num_returns="streaming",
        # Outside of the little that the trial itself reserves.
        scheduling_strategy="DEFAULT",
    )(follow_training)
    deaths = 0
    while True:
        rows: ray.ObjectRefGenerator = task.remote(shared, spec, images, seed)
        try:
            for row in rows:
                yield ray.get(row)
            return
        except LOST as error:
            deaths += count_deaths(error)
            if deaths == MOST_DEATHS:
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
    for (place, seed), score in run_tasks(
        _score, asked, resources=spec.resources, threads=spec.threads, runtime_env=trial_env()
    ):
        yield place, seed, score


def trial_env() -> dict[str, dict[str, str]]:
    """What Ray Tune gives its trials, and so the trainings that they start.

    Only tasks of the same environment go on in the same processes, which have imported everything.
    """
    from ray.tune.execution.class_cache import DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE

    handed_on = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
    return {"env_vars": DEFAULT_ENV_VARS | handed_on}


def _score(shared: Shared, spec: TuneSpec, images: str | None, seed: int) -> Score:
    *_, last = follow_training(shared, spec, images, seed)
    assert isinstance(last, Score)
    return last


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
