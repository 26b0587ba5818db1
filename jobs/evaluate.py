"""Measure synthetic images against real ones: how alike are they?

    python jobs/evaluate.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR]
                            [--dry-run]

Without arguments: the images in out/ (`make generate`) against the embedded real source, into
results/evaluate. Run it again to go on: features are computed once. The report is printed as JSON;
report.html in the root is for people.
"""

import sys

from pydantic import BaseModel

from factory.cli import DONE, absolute_root, parse_job, run_job
from factory.evaluate.prepare import dry_run, prepare
from factory.spec import EvaluateSpec, load_spec


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(EvaluateSpec, args.spec, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"results/{spec.name}"))
        if args.dry_run:
            return dry_run(prepared), DONE
        from factory.evaluate.run import run  # torch and ray: after everything was checked

        return run(prepared, args.address), DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
