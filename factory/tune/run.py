"""Run a search: its trials, the confirmation of the best, the test of the chosen one."""

import logging
import time
from collections.abc import Iterator
from functools import partial

import ray

from factory.classify.pages import verdict_sentence
from factory.cluster import ActorShape, connect, reason_of
from factory.pages.folder import save_report
from factory.spec import JobError, TuneSpec
from factory.store import Store
from factory.tune.final import Final, choose, compare_chosen, named_mixes
from factory.tune.make import make_images
from factory.tune.pages import report_html
from factory.tune.pictures import draw_pictures
from factory.tune.prepare import Prepared, count_images
from factory.tune.report import best_of, confirmed_trials, make_report
from factory.tune.results import ConfirmedTrial, TuneReport
from factory.tune.search import search
from factory.tune.shared import Shared, share
from factory.tune.space import Config
from factory.tune.training import train_again, trial_env
from factory.tune.trial import train
from factory.tune.tried import Score, Tried

_LOG = logging.getLogger(__name__)

_STORE_MARGIN = 1.5
"""Object store of a private instance, over the bytes of the real images that lie in it."""


def run(prepared: Prepared, address: str | None = None) -> TuneReport:
    """Search, confirm the best, test the chosen one, and write the reports into the root.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
        JobError: if no configuration could be trained to the end, or none with all real images.
    """
    started = time.monotonic()
    store, spec = Store(prepared.root), prepared.spec
    store.check_makeable()
    num_bytes = prepared.whole.images.nbytes + prepared.data.validation.images.nbytes
    num_there = sum(count_images(dataset) for dataset in prepared.datasets.values())
    with connect(address, object_store_bytes=int(_STORE_MARGIN * num_bytes)):
        # Said once, and not by every training after its images were drawn.
        ActorShape(spec.resources, threads=spec.threads).group(spec.num_workers)
        shared = share(prepared, make_images, train)
        try:
            tried, failures = search(prepared, shared)
            confirmed, retrained = _confirm(prepared, shared, best_of(tried, spec.confirm.top))
            confirmed, final, failed = choose(confirmed, partial(_compare, prepared, shared))
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
        failures=failures | failed,
        num_there=num_there,
        num_drawn=drawn,
        seconds=time.monotonic() - started,
    )
    pictures = draw_pictures(report, spec)
    save_report(store, report, report_html(report, spec, pictures), pictures)
    # The one against real images alone was said with the comparison.
    if report.final.against_default is not None:
        _LOG.info("%s", verdict_sentence(report.final.against_default, spec.confidence))
    _LOG.info("look at %s", report.html)
    return report


def _compare(prepared: Prepared, shared: Shared, chosen: Config) -> Final:
    """Have the images of the final comparison made, and run it."""
    counts = prepared.whole.class_counts
    images = {name: shared.images(mix, counts) for name, mix in named_mixes(chosen).items()}
    return compare_chosen(prepared, chosen, images, runtime_env=trial_env())


def _confirm(
    prepared: Prepared, shared: Shared, best: list[Tried]
) -> tuple[tuple[ConfirmedTrial, ...], list[Score]]:
    """The best trials with fresh seeds, the best of these first; and what was trained for it."""
    spec = prepared.spec
    scores: dict[int, list[Score]] = {}
    for number, _, score in sorted(_fresh_scores(spec, shared, best), key=lambda one: one[:2]):
        scores.setdefault(number, []).append(score)
    if not scores:
        raise JobError("none of the best configurations could be trained again; see the log")
    return confirmed_trials(best, scores, spec.confidence), [
        s for own in scores.values() for s in own
    ]


def _fresh_scores(
    spec: TuneSpec, shared: Shared, best: list[Tried]
) -> Iterator[tuple[int, int, Score]]:
    """Number of a trial, seed and score, as the trainings end."""
    # The search's own seeds come first.
    seeds = range(spec.search.num_seeds, spec.search.num_seeds + spec.confirm.num_seeds)
    trials = [(trial.config, shared.images(trial.config, shared.class_counts)) for trial in best]
    for done, (place, seed, score) in enumerate(train_again(shared, trials, seeds), start=1):
        number = best[place].number
        if isinstance(score, Exception):
            _LOG.warning("configuration %d failed again: %s", number, reason_of(score))
            continue
        _LOG.info(
            "%d of %d trainings with fresh seeds: %.2f %%",
            done,
            len(trials) * len(seeds),
            100 * score.accuracy,
        )
        yield number, seed, score
