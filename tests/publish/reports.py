"""Results of evaluate and classify on a root, in the words of these stages; nothing was trained."""

from pathlib import Path

from factory.classify.arms import Sources, prepare_arms
from factory.classify.compare import make_report
from factory.classify.prepare import Prepared
from factory.classify.results import ClassifyReport
from factory.evaluate.results import EvaluateReport
from factory.sources.open import open_source
from factory.sources.source import Source
from factory.spec import ClassifySpec, Frozen, SourceSpec
from factory.spec.evaluate import HELD_OUT
from tests.classify.comparisons import put_trial
from tests.evaluate.evaluations import evaluate, make_source

ARMS = {
    "real": {"mix": {"kind": "real"}},
    "both": {"mix": {"kind": "multiplier", "multiplier": 1.0}},
    "drawn": {"mix": {"kind": "ratio", "synthetic_ratio": 1.0}},
}


def real_source(like: Source, name: str, *, seed: int, count: int = 8) -> Source:
    _, side, _, channels = like.images.shape
    return make_source(name, like.class_names, count, seed=seed, side=side, channels=channels)


def make_evaluation(
    root: Path | SourceSpec,
    *,
    quality: float = 0.4,
    has_held_out: bool = True,
    per_class: bool = True,
) -> EvaluateReport:
    """What evaluate would say of a root, or of part of one."""
    drawn = open_source(root if isinstance(root, SourceSpec) else SourceSpec(path=str(root)))
    sources = {"real": real_source(drawn, "photos", seed=1)}
    if has_held_out:
        sources[HELD_OUT] = real_source(drawn, "photos, held out", seed=2)
    qualities = {HELD_OUT: 1.0, "synthetic": quality}
    return evaluate(sources | {"synthetic": drawn}, qualities, per_class=per_class).report


def make_classification(root: Path, folder: Path, *, skills=(2.4, 2.4, 0.5)) -> ClassifyReport:
    """What classify would say of a root: the better the arm, the greater its skill."""
    drawn = open_source(SourceSpec(path=str(root)))
    spec = ClassifySpec.model_validate(
        {"arms": ARMS, "synthetic": {"synthetic": {"path": str(root)}}, "num_seeds": 3}
    )
    sources = Sources(
        real=real_source(drawn, "photos", seed=1),
        validation=None,
        weights=None,
        test=real_source(drawn, "photos, held out", seed=2, count=100),
        synthetic={"synthetic": drawn},
    )
    overlap = {"real": 0, "synthetic": 0}
    prepared = Prepared(spec, str(folder), sources, prepare_arms(spec, sources), overlap)
    for (arm, _), skill in zip(ARMS.items(), skills, strict=True):
        for trial in range(3):
            put_trial(prepared, arm, trial, skill)
    return make_report(prepared, zero_shot=None, made=9, failures={}, seconds=90)


def put_results(folder: Path, report: Frozen, **synthetic: Path | SourceSpec) -> Path:
    """A folder as a stage leaves it: its report, and what it was asked for."""
    sources = {
        name: source if isinstance(source, SourceSpec) else SourceSpec(path=str(source))
        for name, source in synthetic.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json())
    asked = ClassifySpec.model_construct(synthetic=sources)
    (folder / "asked.json").write_text(asked.model_dump_json(include={"synthetic"}))
    return folder
