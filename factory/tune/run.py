"""Run a search: its trials, the confirmation of the best, the test of the chosen one."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import ray

from factory.cluster import connect, map_on_actors
from factory.pages.folder import save_report
from factory.spec import JobError, TuneSpec
from factory.store import Store
from factory.tune.final import compare_chosen, named_mixes
from factory.tune.pages import report_html
from factory.tune.pictures import draw_pictures
from factory.tune.prepare import Prepared
from factory.tune.report import Tried, best_of, confirmed_trials, make_report
from factory.tune.results import ConfirmedTrial, TuneReport
from factory.tune.search import (
    Make,
    Shared,
    follow_training,
    make_images,
    search,
    share,
    train_wide,
)
from factory.tune.space import with_config
from factory.tune.trial import Score, train

_LOG = logging.getLogger(__name__)

_STORE_MARGIN = 1.5
"""Object store of a private instance, over the bytes of the real images that lie in it."""


def run(prepared: Prepared, address: str | None = None, make: Make = make_images) -> TuneReport:
    """Search, confirm the best, test the chosen one, and write the reports into the root.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.
        make: makes datasets.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
        JobError: if no configuration could be trained to the end.
    """
    started = time.monotonic()
    store, spec = Store(prepared.root), prepared.spec
    store.check_makeable()
    num_bytes = prepared.whole.images.nbytes + prepared.data.validation.images.nbytes
    with connect(address, object_store_bytes=int(_STORE_MARGIN * num_bytes)):
        shared = share(prepared, make, train)
        try:
            tried, failures = search(prepared, shared)
            confirmed, retrained = _confirm(prepared, shared, best_of(tried, spec.confirm.top))
            chosen, counts = confirmed[0].config, prepared.whole.class_counts
            images = {name: shared.images(c, counts) for name, c in named_mixes(chosen).items()}
            final = compare_chosen(prepared, chosen, images)
            drawn: int = ray.get(shared.maker.drawn.remote())
        finally:
            # Tune keeps what trials were given, and so the maker, as long as the connection.
            ray.kill(shared.maker)
    report = make_report(
        prepared,
        tried,
        confirmed,
        retrained,
        final,
        failures=failures,
        num_drawn=drawn,
        seconds=time.monotonic() - started,
    )
    pictures = draw_pictures(report, spec)
    save_report(store, report, report_html(report, spec, pictures), pictures)
    _LOG.info("look at %s", report.html)
    return report


class _Confirmer:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """A row with configuration, images and seed -> a row with the score, or the failure."""
        shared = self._shared
        spec = with_config(shared.spec, json.loads(row["config"]))
        try:
            *_, score = follow_training(shared, spec, row["images"] or None, int(row["seed"]))
        except Exception as error:  # noqa: BLE001 - the one place: a failure becomes a row
            return self.give_up(row, f"{type(error).__name__}: {error}")
        assert isinstance(score, Score)
        return {"number": row["number"], "score": json.dumps(score._asdict()), "failure": ""}

    def give_up(self, row: dict[str, Any], error: str) -> dict[str, str]:
        """The row of a training that failed, or in which processes keep dying."""
        return {"number": row["number"], "score": "", "failure": error}


def _confirm(
    prepared: Prepared, shared: Shared, best: list[Tried]
) -> tuple[tuple[ConfirmedTrial, ...], list[Score]]:
    """The best trials with fresh seeds, the best of these first; and what was trained for it."""
    spec = prepared.spec
    scores: dict[int, list[Score]] = {}
    for number, score in _fresh_scores(spec, shared, best):
        scores.setdefault(number, []).append(score)
    if not scores:
        raise JobError("none of the best configurations could be trained again; see the log")
    return confirmed_trials(best, scores, spec.confidence), [
        s for own in scores.values() for s in own
    ]


def _fresh_scores(spec: TuneSpec, shared: Shared, best: list[Tried]) -> Iterator[tuple[int, Score]]:
    # The search's own seeds come first.
    seeds = range(spec.search.num_seeds, spec.search.num_seeds + spec.confirm.num_seeds)
    images = {trial.number: shared.images(trial.config, shared.class_counts) for trial in best}
    if spec.num_workers > 1:
        for trial in best:
            configured = with_config(spec, trial.config)
            for seed in seeds:
                yield trial.number, train_wide(shared, configured, images[trial.number], seed)
        return
    rows = [
        {
            "number": trial.number,
            "config": json.dumps(trial.config),
            "images": images[trial.number] or "",
            "seed": seed,
        }
        for seed in seeds
        for trial in best
    ]
    results = map_on_actors(
        rows, _Confirmer, (shared,), resources=spec.resources, threads=spec.threads, in_flight=1
    )
    for done, row in enumerate(results, start=1):
        if row["failure"]:
            _LOG.warning("configuration %s failed again: %s", row["number"], row["failure"])
            continue
        score = Score(**json.loads(row["score"]))
        _LOG.info(
            "%d of %d trainings with fresh seeds: %.2f %%", done, len(rows), 100 * score.accuracy
        )
        yield int(row["number"]), score
