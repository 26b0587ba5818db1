"""Let a language model write the prompts of a dataset into a file that people review.

    python jobs/prompts.py [spec.yaml] [key.path=value ...] [--address ADDR] [--dry-run]

Without arguments: ten prompts for each class of Namburi et al. 2022, as
specs/prompts_namburi2022.yaml says, into prompts.yaml; `model=FOLDER` takes a text-generation model
that lies here. A file that is there is never written over; one from the same settings is left as
people have reviewed it.

The file is named in a dataset's spec as generator.prompts.file. No language model runs in
jobs/generate.py. The report is printed as JSON. --address is taken as by every job, and not used:
one process writes one file.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from factory.cli import DONE, note_unused_address, parse_job, run_job
from factory.spec import SpecError, WritePromptsSpec, load_spec
from factory.write_prompts.prepare import dry_run, prepare

DEFAULT = Path(__file__).parent / "specs" / "prompts_namburi2022.yaml"


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        spec = load_spec(WritePromptsSpec, args.spec or DEFAULT, args.overrides)
        if args.root is not None:
            raise SpecError(f"--root {args.root}: the file is named by `output`; leave --root out")
        note_unused_address(args.address, "one process writes one file")
        prepared = prepare(spec)
        if args.dry_run:
            return dry_run(prepared), DONE
        from factory.write_prompts.run import run  # torch: after everything was checked

        return run(prepared), DONE

    return run_job(job)


if __name__ == "__main__":
    sys.exit(main())
