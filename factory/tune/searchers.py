"""The search as Ray Tune knows it: its space, its searcher, its scheduler."""

from typing import Any

import optuna
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from factory.seeds import hash_seed
from factory.spec import Parameter, Range, Search, TuneSpec
from factory.tune.space import encode, values
from factory.tune.tried import DONE, FOUND, METRIC, TIME

MODE = "max"
"""The more accurate, the better."""


def param_space(spec: TuneSpec) -> dict[str, Any]:
    """Path of a spec field -> how Ray Tune draws it; `space.decode` takes what was drawn."""
    is_grid = spec.search.searcher == "grid"
    return {path: _domain(parameter, is_grid=is_grid) for path, parameter in spec.space.items()}


def _domain(parameter: Parameter, *, is_grid: bool) -> Any:
    found = values(parameter) if isinstance(parameter, Range) else encode(parameter)
    if found is not None:
        # A range too is drawn as its steps: rounded numbers would find the ends half as often.
        return tune.grid_search(list(found)) if is_grid else tune.choice(list(found))
    assert isinstance(parameter, Range)
    draw = tune.loguniform if parameter.log else tune.uniform
    return draw(parameter.low, parameter.high)


def search_algorithm(spec: TuneSpec, *, max_concurrent: int) -> SearchAlgorithm | Searcher:
    """Who says what to try next; equal seeds, equal answers to equal results.

    Args:
        spec: the search.
        max_concurrent: trials that wait or train at once, at most.
    """
    seed = hash_seed(spec.seed, "search") % 2**32
    match spec.search.searcher:
        case "grid" | "random":
            return BasicVariantGenerator(max_concurrent=max_concurrent, random_state=seed)
        case "optuna":
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            searcher = OptunaSearch(metric=METRIC, mode=MODE, seed=seed)
            return ConcurrencyLimiter(searcher, max_concurrent=max_concurrent)


class _Asha(AsyncHyperBandScheduler):
    """Compares with trainings that are on record already, but stops none of them."""

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result.get(FOUND) else decision


def scheduler(search: Search) -> TrialScheduler:
    """Who stops trials early."""
    match search.scheduler:
        case "none":
            return FIFOScheduler()
        case "asha":
            return _Asha(
                time_attr=TIME,
                max_t=DONE,
                grace_period=max(1, round(100 * search.grace)),
                reduction_factor=search.reduction_factor,
            )
