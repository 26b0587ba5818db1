"""Check that a dataset is whole, and that it can be made again.

    python jobs/verify.py [spec.yaml] [key.path=value ...] [--root URL] [--address ADDR] [--dry-run]
    python jobs/verify.py hub:org/name [revision=REVISION] [merkle_root=HEX] [download=true]

Without arguments: looks at out/. Recounts, hashes and decodes every shard; compares keys, labels
and provenance with the plan; checks the marks of generated images; looks for duplicates.

    replay=0.01   also draws 1 % of the images again and compares them pixel by pixel
    only=KEY      draws one image again, writes it as KEY.png, and checks nothing else

Images made on another kind of device or with other versions are not comparable, and said to be so.
Nothing in the root is changed. What is broken or missing is made again by
`python jobs/generate.py ... recheck=true` with the dataset's spec and root.

With hub:org/name it checks a dataset that jobs/publish.py has put on the Hugging Face Hub: names,
sizes and digests of its files, as the Hub states them, against the dataset's manifest, and the
Merkle root over them against manifest and card, or against one that is given.

    download=true   hashes every file itself, and counts its images

The report is printed as JSON. Exit codes: 0 all is as promised; 1 shards are missing, as in a
dataset that is still being made; 2 nothing could be checked; 3 something is wrong, and the report
names shard and key.
"""

import argparse
import sys

from pydantic import BaseModel

from factory.cli import (
    DONE,
    MISMATCH,
    absolute_root,
    note_unused_address,
    parse_job,
    run_job,
)
from factory.spec import SpecError, VerifySpec, load_spec
from factory.spec.verify import VerifyHubSpec
from factory.verify.prepare import dry_run, prepare

_HUB = "hub:"


def main() -> int:
    """Run the job; see `factory.cli` for the exit codes."""
    args = parse_job(__doc__)

    def job() -> tuple[BaseModel, int]:
        if args.spec is not None and args.spec.startswith(_HUB):
            return _verify_hub(args)
        spec = load_spec(VerifySpec, args.spec, args.overrides)
        if spec.only is not None:
            note_unused_address(args.address, "`only` draws on this machine")
        prepared = prepare(spec, absolute_root(args.root or "out"))
        if args.dry_run:
            return dry_run(prepared), DONE
        if spec.only is not None:
            from factory.verify.replay import remake  # torch: after everything was checked

            image = remake(prepared)
            return image, MISMATCH if image.stored == "other" else DONE
        from factory.verify.run import run  # torch and ray: after everything was checked

        report = run(prepared, args.address)
        return report, report.exit_code

    return run_job(job)


def _verify_hub(args: argparse.Namespace) -> tuple[BaseModel, int]:
    spec = load_spec(VerifyHubSpec, None, args.overrides)
    if args.dry_run or args.root is not None:
        raise SpecError(f"{args.spec}: --root and --dry-run are for roots; leave them out")
    note_unused_address(args.address, "this process looks at the Hub")
    from factory.verify.hub import verify_hub  # the Hub's client: after everything was checked

    report = verify_hub(args.spec.removeprefix(_HUB), spec)
    return report, report.exit_code


if __name__ == "__main__":
    sys.exit(main())
