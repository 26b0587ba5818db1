"""Have the images of a search made by the stage `generate`."""

from factory.generate.prepare import prepare
from factory.generate.run import run
from factory.spec import GenerateSpec, JobError


def make_images(spec: GenerateSpec, root: str) -> int:
    """Make what is missing of a dataset by the stage `generate`; returns how many images it drew.

    Raises:
        JobError: if shards are missing at the end.
    """
    report = run(prepare(spec, root))
    if report.missing:
        reasons = "; ".join(sorted({failure.error for failure in report.failures}))
        raise JobError(f"{root}: {len(report.missing)} shards could not be made: {reasons}")
    return report.images_made
