"""The trials of a search on Ray Tune: images come on request, in order, while classifiers train."""

import logging
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

# Ray Tune reads them when it is imported: no log files of its own, and Ctrl-C is the job's.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from factory.cluster import ActorShape, reason_of
from factory.progress import SILENT_SECONDS
from factory.spec import TuneSpec
from factory.tune.prepare import Prepared, num_trials
from factory.tune.searchers import MODE, param_space, scheduler, search_algorithm
from factory.tune.shared import Shared
from factory.tune.space import decode, in_words, with_config
from factory.tune.training import follow
from factory.tune.tried import DONE, FOUND, METRIC, SECONDS, TIME, Score, Tried

_LOG = logging.getLogger(__name__)

_AHEAD = 2
"""Trials beyond those that can train at once: they wait for their images meanwhile."""


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
    return tune.Tuner(
        trainable,
        param_space=param_space(spec),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode=MODE,
            # Of `max_concurrent_trials` grid and random searches take no notice.
            search_alg=search_algorithm(spec, max_concurrent=_max_concurrent(spec)),
            scheduler=scheduler(search),
            num_samples=search.num_trials or 1,
            trial_dirname_creator=_folder_name,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=name, storage_path=path, verbose=0, callbacks=[_Log(spec)]),
    )


def _max_concurrent(spec: TuneSpec) -> int:
    """Trials under way at once: where it is bounded how many train, none waits beside them."""
    room = ActorShape(spec.resources, threads=spec.threads).capacity // spec.num_workers
    most = spec.search.max_concurrent or max(1, room) + _AHEAD
    return min(most, spec.resources.max_actors or most)


def _folder_name(trial: TuneTrial) -> str:
    """A trial's folder: its number in the search, from 0, and its name."""
    # Every searcher's tag begins with the number.
    number = int((trial.experiment_tag or "0").partition("_")[0])
    return f"{number:06d}-{trial.trial_id}"


class _Log(tune.Callback):
    """A line at the start, for every trial that ends, and where none does for long."""

    def __init__(self, spec: TuneSpec, *, silent_seconds: float = SILENT_SECONDS) -> None:
        self._spec = spec
        self._silent_seconds = silent_seconds
        self._spoke: float | None = None

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Say how far the search is, if nothing was said for long."""
        now = time.monotonic()
        if self._spoke is not None and now - self._spoke < self._silent_seconds:
            return
        done = sum(trial.is_finished() for trial in trials)
        under_way = sum(trial.status == TuneTrial.RUNNING for trial in trials)
        words = f"{under_way} at work or waiting for their images"
        if self._spoke is None:
            words = "starting"
        _LOG.info("%d of %d configurations, %s", done, num_trials(self._spec), words)
        self._spoke = now

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Say how good it was."""
        self._spoke = time.monotonic()
        done = 1 + sum(other.is_finished() for other in trials if other is not trial)
        last = trial.last_result
        ending = "" if last[TIME] == DONE else f", stopped at {last[TIME]} %"
        if last.get(FOUND):
            ending = ", trained before"
        _LOG.info(
            "%d of %d configurations: %.2f %% on the validation images (%s%s)",
            done,
            num_trials(self._spec),
            100 * last[METRIC],
            in_words(decode(self._spec.space, trial.config)),
            ending,
        )


def _try(drawn: dict[str, Any], shared: Shared) -> None:
    """One trial: have its images made, then have it trained; computes nothing itself."""
    config = decode(shared.spec.space, drawn)
    spec = with_config(shared.spec, config)
    images = shared.images(config, shared.class_counts)
    scores, is_found = [], False
    for seed in range(spec.search.num_seeds):
        with closing(follow(shared, spec, images, seed)) as rows:
            for row in rows:
                if isinstance(row, Score):
                    scores.append(row)
                    continue
                is_found = row.is_found
                # One that has done all of its steps is not stopped: its score follows.
                if spec.search.scheduler != "none" and row.percent < 100:
                    said = {METRIC: row.accuracy, TIME: row.percent, SECONDS: row.seconds}
                    # Here a trial that the scheduler stops ends, by SystemExit.
                    tune.report(said | {FOUND: is_found})
    accuracy = sum(score.accuracy for score in scores) / len(scores)
    seconds = sum(score.seconds for score in scores)
    rows = [score._asdict() for score in scores]
    said = {METRIC: accuracy, TIME: DONE, SECONDS: seconds, "scores": rows}
    tune.report(said | {FOUND: is_found})
