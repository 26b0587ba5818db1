"""Search for the mix of real and synthetic images, made how, that serves a classifier best.

    python jobs/tune.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR] [--dry-run]

Without arguments: a small search over synthetic ratio and multiplier on the embedded source
(specs/tune_smoke.yaml), into results/tune. Run it again to go on after any interruption. The
report is printed as JSON; report.html in the root is for people, and chosen/generate.yaml and
chosen/classify.yaml are specs of what was found.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from factory.cli import DONE, FAILED, absolute_root, parse_job, run_job
from factory.spec import TuneSpec, load_spec
from factory.tune.prepare import dry_run, prepare

SMOKE = Path(__file__).parent / "specs" / "tune_smoke.yaml"


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(TuneSpec, args.spec or SMOKE, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"results/{spec.name}"))
        if args.dry_run:
            return dry_run(prepared), DONE
        from factory.tune.run import run  # torch and ray: after everything was checked

        report = run(prepared, args.address)
        return report, FAILED if report.failures else DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
