"""The trials of a search on Ray Tune: images come on request, in order, while classifiers train."""

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray Tune reads them when it is imported: no log files of its own, and Ctrl-C is the job's.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, WorkerCrashedError
from ray.train import TrainingFailedError
from ray.tune.experiment import Trial as TuneTrial

from factory.cluster import ActorShape
from factory.generate.prepare import prepare as prepare_images
from factory.generate.run import run as run_generate
from factory.records import ASKED_NAME
from factory.sources.mix import most_of_each
from factory.spec import GenerateSpec, JobError, TuneSpec
from factory.store import Store
from factory.tune.point import (
    ARM,
    SEARCH_FOLDER,
    RealData,
    images_needed,
    images_spec,
)
from factory.tune.prepare import (
    Dataset,
    Prepared,
    images_ahead,
    images_key,
    in_whole_shards,
    num_trials,
)
from factory.tune.searchers import (
    DONE,
    METRIC,
    MODE,
    SECONDS,
    TIME,
    param_space,
    scheduler,
    search_algorithm,
)
from factory.tune.space import Config, decode, in_words, with_config
from factory.tune.trial import Progress, Score, prepare_trial
from factory.tune.tried import Tried

_LOG = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that a training or a dataset is begun whose process dies."""
_LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError)
"""What Ray raises of such a process: by itself, with its machine, or for want of memory."""
_AHEAD = 2
"""Trials beyond those that can train at once: they wait for their images meanwhile."""
_TRIAL_ENV = {"env_vars": {"PL_DISABLE_FORK": "1"}}
"""What Ray Tune gives its trials, and so the trainings that they start: only tasks of the same
environment go on in the same processes, which have imported everything."""

Train = Callable[[TuneSpec, str, RealData, str | None, int], Iterator[Progress | Score]]
"""As `trial.train`."""
Make = Callable[[GenerateSpec, str], int]
"""Makes what is missing of a dataset in a root, and returns how many images it drew."""


def make_images(spec: GenerateSpec, root: str) -> int:
    """Make what is missing of a dataset by the stage `generate`; returns how many images it drew.

    Raises:
        JobError: if shards are missing at the end.
    """
    report = run_generate(prepare_images(spec, root))
    if report.missing:
        reasons = "; ".join(sorted({failure.error for failure in report.failures}))
        raise JobError(f"{root}: {len(report.missing)} shards could not be made: {reasons}")
    return report.images_made


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
    data: list[ray.ObjectRef]
    """Reference to the real images, in a list so that it is handed on as it is."""
    class_counts: dict[str, int]
    """Real images of each class that the search trains with."""
    datasets: dict[str, Dataset]
    """`images_key` of a configuration -> its images."""
    ahead: dict[str, dict[str, int]]
    """`images_key` of a configuration -> images of each class that are made at once, since they
    will all be needed: a pool of actors may take longer to start than a trial to train."""
    maker: Any
    """Handle of the `_Maker`."""
    train: Train

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
    data = [ray.put(prepared.data)]
    return Shared(
        spec=prepared.spec,
        root=prepared.root,
        data=data,
        class_counts=prepared.data.real.class_counts,
        datasets=datasets,
        ahead=images_ahead(prepared.spec, prepared.data.real.class_counts),
        maker=maker,
        train=train,
    )


def search(prepared: Prepared, shared: Shared) -> tuple[list[Tried], dict[str, str]]:
    """Run the trials, or those that an earlier run has left.

    Returns:
        Every configuration that was trained, in the order of the search; and those that could not
        be, in words -> why.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    path, name = f"{prepared.root}/ray", prepared.fingerprint
    # A trial computes nothing itself: it waits for images without holding a CPU, then for a task.
    # Tune wants it to reserve something, so it reserves a byte.
    trainable = tune.with_resources(tune.with_parameters(_try, shared=shared), {"memory": 1})
    if tune.Tuner.can_restore(f"{path}/{name}"):
        tuner = tune.Tuner.restore(f"{path}/{name}", trainable, resume_errored=True)
    else:
        tuner = _new_tuner(prepared, trainable, path, name)
    tried: list[Tried] = []
    failures: dict[str, str] = {}
    results = tuner.fit()
    # After a restart they come in another order; their folders begin with their number.
    in_order = sorted((results[n] for n in range(len(results))), key=lambda r: Path(r.path).name)
    for number, result in enumerate(in_order, start=1):
        config = decode(prepared.spec.space, result.config or {})
        if result.error is not None:
            failures[f"{number}: {in_words(config)}"] = reason_of(result.error)
        elif result.metrics:
            tried.append(Tried.from_metrics(number, config, result.metrics))
    for words, why in failures.items():
        _LOG.warning("%s failed: %s", words, why)
    return tried, failures


def _new_tuner(prepared: Prepared, trainable: Any, path: str, name: str) -> tune.Tuner:
    spec, search = prepared.spec, prepared.spec.search
    room = ActorShape(spec.resources, threads=spec.threads).capacity // spec.num_workers
    return tune.Tuner(
        trainable,
        param_space=param_space(spec),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode=MODE,
            # Of `max_concurrent_trials` grid and random searches take no notice.
            search_alg=search_algorithm(
                spec, max_concurrent=search.max_concurrent or max(1, room) + _AHEAD
            ),
            scheduler=scheduler(search),
            num_samples=search.num_trials or 1,
            trial_dirname_creator=_folder_name,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=name, storage_path=path, verbose=0, callbacks=[_Log(spec)]),
    )


def _folder_name(trial: TuneTrial) -> str:
    """A trial's folder: its number in the search, from 0, and its name."""
    # Every searcher's tag begins with the number.
    number = int((trial.experiment_tag or "0").partition("_")[0])
    return f"{number:06d}-{trial.trial_id}"


class _Log(tune.Callback):
    """A line for every trial that ends."""

    def __init__(self, spec: TuneSpec) -> None:
        self._spec = spec

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Say how good it was."""
        done = 1 + sum(other.is_finished() for other in trials if other is not trial)
        last = trial.last_result
        stopped = "" if last[TIME] == DONE else f", stopped at {last[TIME]} %"
        _LOG.info(
            "%d of %d configurations: %.2f %% on the validation images (%s%s)",
            done,
            num_trials(self._spec),
            100 * last[METRIC],
            in_words(decode(self._spec.space, trial.config)),
            stopped,
        )


def _try(drawn: dict[str, Any], shared: Shared) -> None:
    """One trial: have its images made, then have it trained; computes nothing itself."""
    config = decode(shared.spec.space, drawn)
    spec = with_config(shared.spec, config)
    images = shared.images(config, shared.class_counts)
    scores = []
    for seed in range(spec.search.num_seeds):
        with closing(_follow(shared, spec, images, seed)) as rows:
            for row in rows:
                if isinstance(row, Score):
                    scores.append(row)
                elif spec.search.scheduler != "none":
                    # Here a trial that the scheduler stops ends, by SystemExit.
                    tune.report({METRIC: row.accuracy, TIME: row.percent, SECONDS: row.seconds})
    accuracy = sum(score.accuracy for score in scores) / len(scores)
    seconds = sum(score.seconds for score in scores)
    rows = [score._asdict() for score in scores]
    tune.report({METRIC: accuracy, TIME: DONE, SECONDS: seconds, "scores": rows})


def _follow(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int
) -> Generator[Progress | Score]:
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
        for place, seed in tasks:
            config, images = trials[place]
            try:
                *_, score = train_wide(shared, with_config(spec, config), images, seed)
                assert isinstance(score, Score)
                yield place, seed, score
            except TrainingFailedError as error:
                yield place, seed, error
        return
    task = ray.remote(_score).options(
        **_training_options(spec), max_retries=ATTEMPTS - 1, runtime_env=_TRIAL_ENV
    )
    waiting = {}
    for place, seed in tasks:
        config, images = trials[place]
        waiting[task.remote(shared, with_config(spec, config), images, seed)] = place, seed
    while waiting:
        (ended,), _ = ray.wait(list(waiting))
        place, seed = waiting.pop(ended)
        try:
            yield place, seed, ray.get(ended)
        except RayError as error:
            yield place, seed, error


def _training_options(spec: TuneSpec) -> dict[str, Any]:
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


def follow_training(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int
) -> Iterator[Progress | Score]:
    """Train one classifier in this process, as `Train` says."""
    # Ray cancels by SIGINT, which all that a script starts in its background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # One copy on each machine: arrays in the object store are mapped, not copied.
    data: RealData = ray.get(shared.data[0])
    yield from shared.train(spec, shared.root, data, images, seed)


def train_wide(
    shared: Shared, spec: TuneSpec, images: str | None, seed: int, *, is_watched: bool = False
) -> Iterator[Progress | Score]:
    """One training on several workers of Ray Train, which tell Tune themselves how far they are."""
    # Seconds of importing that a process which trains by itself does not need.
    from ray.tune.integration.ray_train import TuneReportCallback

    from factory.classify.run import train_on_workers

    trial = prepare_trial(spec, shared.root, ray.get(shared.data[0]), images)
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
