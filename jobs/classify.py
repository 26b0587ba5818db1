"""Train classifiers on mixes of real and synthetic images: do the synthetic ones help?

    python jobs/classify.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR]
                            [--dry-run]

Without arguments: 1,000 real images of the embedded source against the 1,000 synthetic ones in
out/ (`make generate`) and both together, three seeds each, into results/classify. Run it again to
go on. The report is printed as JSON; report.html in the root is for people.
"""

import sys

from pydantic import BaseModel

from factory.classify.prepare import dry_run, prepare
from factory.cli import DONE, FAILED, absolute_root, parse_job, run_job
from factory.spec import ClassifySpec, load_spec


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(ClassifySpec, args.spec, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"results/{spec.name}"))
        if args.dry_run:
            return dry_run(prepared), DONE
        from factory.classify.run import run  # torch and ray: after everything was checked

        report = run(prepared, args.address)
        return report, FAILED if report.failures else DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
