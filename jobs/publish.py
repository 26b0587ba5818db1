"""Publish a dataset on the Hugging Face Hub, with a card that carries its measured results.

    python jobs/publish.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR]
                           [--dry-run]

Without arguments: looks at out/ (`make generate`) and results/evaluate, pushes nothing, and writes
what would speak of the dataset into results/publish: README.md, manifest.json, croissant.json,
the contact sheet, and layout.txt, the list of all files that would be pushed. It needs no token.

    repo_id=org/name licence=cc-by-4.0    pushes it (private; private=false shows it to everybody)
    export=FOLDER                         also writes the images as files, one folder a class

What stands against publishing is refused with its reason before anything is sent: a root that
fails verification or lacks images, no check for copies of real images or one that found some,
images without their mark, another dataset in the repository, licences that nobody has named. All
but licences can be overridden by name, e.g. accept=[memorisation_missing].

The report is printed as JSON. Run it again to go on, or to publish what the root has grown by.
--dry-run writes nothing. --address is taken as by every job, and not used: publishing needs no
cluster.
"""

import sys

from pydantic import BaseModel

from factory.cli import DONE, absolute_root, parse_job, run_job
from factory.publish.prepare import prepare
from factory.spec import PublishSpec, load_spec


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(PublishSpec, args.spec, args.overrides)
        prepared = prepare(spec, absolute_root(args.root or f"results/{spec.name}"))
        from factory.publish.run import dry_run, run  # after everything was checked

        return (dry_run if args.dry_run else run)(prepared), DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
