"""All pictures of a search as PNG."""

from matplotlib import rc_context

from factory.pages.figures import png
from factory.pages.looks import STYLE
from factory.spec import TuneSpec
from factory.tune import charts
from factory.tune.results import TuneReport


def draw_pictures(report: TuneReport, spec: TuneSpec) -> dict[str, bytes]:
    """Name -> PNG, with `looks.DENSITY` pixels for each of a page.

    Args:
        report: the search.
        spec: what was asked, which knows what its parameters may be.
    """
    with rc_context(STYLE):
        figures = {
            "parameters": charts.parameters(report, spec.space),
            "best_so_far": charts.best_so_far(report),
            "cost_front": charts.cost_front(report),
            "confirmed": charts.confirmed(report),
        }
        return {name: png(figure) for name, figure in figures.items()}
