"""Train a diffusion model on a real source.

    python jobs/fit.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR] [--dry-run]

Without arguments: a smoke-sized model of the embedded source (specs/fit_smoke.yaml) into fits/.
Run it again to go on after any interruption. The report is printed as JSON.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from factory.cli import DONE, absolute_root, parse_job, run_job
from factory.fit.prepare import dry_run, prepare
from factory.spec import FitSpec, load_spec

SMOKE = Path(__file__).parent / "specs" / "fit_smoke.yaml"


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(FitSpec, args.spec or SMOKE, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"fits/{spec.name}"))
        if args.dry_run:
            return dry_run(prepared), DONE
        from factory.fit.run import run  # torch and ray: after everything was checked

        return run(prepared, args.address), DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
