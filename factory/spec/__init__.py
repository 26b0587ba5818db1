"""What is asked: frozen specs, one file a stage."""

from factory.spec.classify import (
    Arm,
    Augmentation,
    Classifier,
    ClassifierTraining,
    ClassifySpec,
    Match,
    Validation,
    ZeroShot,
)
from factory.spec.fit import DenoiserShape, FitSpec, SampleMetric, Training
from factory.spec.generate import EdmGenerator, GenerateSpec, Scheduler, ShardFormat
from factory.spec.mix import (
    AddMix,
    FillMix,
    KeepMix,
    Mix,
    MultiplierMix,
    OversampleMix,
    RatioMix,
    RealMix,
    ReplaceMix,
)
from factory.spec.read import (
    Count,
    Counts,
    Fraction,
    Frozen,
    JobError,
    SpecError,
    differences,
    fingerprint,
    load_spec,
    validate,
)
from factory.spec.resources import Resources
from factory.spec.source import LongTail, Resample, SourceSpec
from factory.spec.verify import VerifySpec

__all__ = [
    "AddMix",
    "Arm",
    "Augmentation",
    "Classifier",
    "ClassifierTraining",
    "ClassifySpec",
    "Count",
    "Counts",
    "DenoiserShape",
    "EdmGenerator",
    "FillMix",
    "FitSpec",
    "Fraction",
    "Frozen",
    "GenerateSpec",
    "JobError",
    "KeepMix",
    "LongTail",
    "Match",
    "Mix",
    "MultiplierMix",
    "OversampleMix",
    "RatioMix",
    "RealMix",
    "ReplaceMix",
    "Resample",
    "Resources",
    "SampleMetric",
    "Scheduler",
    "ShardFormat",
    "SourceSpec",
    "SpecError",
    "Training",
    "Validation",
    "VerifySpec",
    "ZeroShot",
    "differences",
    "fingerprint",
    "load_spec",
    "validate",
]
