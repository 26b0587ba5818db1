"""Teach a text-to-image model one concept a class: textual inversion or DreamBooth.

    python jobs/adapt.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR] [--dry-run]

Without arguments: the two classes that the embedded text-to-image model has not seen, by DreamBooth
(specs/adapt_smoke.yaml), into adapters/. Run it again to go on after any interruption. The report
is printed as JSON; `generator.adapters=ROOT` has jobs/generate.py draw with what was learned.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from factory.adapt.prepare import dry_run, prepare
from factory.cli import DONE, FAILED, absolute_root, parse_job, run_job
from factory.spec import AdaptSpec, load_spec
from factory.store import Store

SMOKE = Path(__file__).parent / "specs" / "adapt_smoke.yaml"


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(AdaptSpec, args.spec or SMOKE, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"adapters/{spec.name}"))
        if args.dry_run:
            return dry_run(prepared), DONE
        Store(prepared.root).check_makeable()
        from factory.adapt.run import run  # torch and ray: after everything was checked

        report = run(prepared, args.address)
        return report, FAILED if report.missing else DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
