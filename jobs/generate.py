"""Make a synthetic dataset.

    python jobs/generate.py [spec.yaml] [key.path=value ...] [--root URL] [--dry-run]

Without arguments: 1,000 images of the embedded model into out/. Run it again to go on after any
interruption; ask for more images to grow the dataset. The report is printed as JSON.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from factory.cli import DONE, FAILED, absolute_root, parse_job, run_job
from factory.generate.prepare import DryRunReport, Prepared, dry_run, prepare
from factory.spec import GenerateSpec, SpecError, load_spec


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(GenerateSpec, args.spec, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or "out"))
        if args.dry_run:
            return _look(prepared), DONE
        if spec.preview:
            raise SpecError("preview: got true without --dry-run; add --dry-run, or leave it out")
        prepared.store.check_makeable()
        from factory.generate.run import run  # torch and ray: after everything was checked

        report = run(prepared, args.address)
        return report, FAILED if report.missing else DONE

    return run_job(job)


def _look(prepared: Prepared) -> DryRunReport:
    report = dry_run(prepared)
    if not prepared.resolved.spec.preview:
        return report
    from factory.generate.preview import preview  # torch

    path, estimate = preview(prepared, Path.cwd())
    return report.model_copy(update={"preview": str(path), "estimate": estimate})


if __name__ == "__main__":
    sys.exit(main())
