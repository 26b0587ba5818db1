"""The one command-line shape of every job."""

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from factory.spec import JobError, SpecError

# It warns of parts that no job uses, and reads this when it is imported.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

_LOG = logging.getLogger(__name__)

DONE, FAILED, WRONG, MISMATCH = 0, 1, 2, 3
"""Exit codes: done; failed; refused before work started; verification found a mismatch."""


def parse_job(doc: str | None, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse `[spec.yaml] [key.path=value ...] [--root URL] [--address ADDR] [--dry-run]`.

    Args:
        doc: the job's docstring, shown by --help.
        argv: arguments; None: those of the process.

    Returns:
        A namespace with `spec` (path or None), `overrides`, `root` (text or None), `address`
        (text or None) and `dry_run`.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="spec.yaml | key.path=value")
    parser.add_argument("--root", metavar="URL", help="folder or URL of the dataset")
    parser.add_argument("--address", metavar="ADDR", help="Ray cluster to use; default: this one")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    args = parser.parse_intermixed_args(argv)
    files = [word for word in args.words if "=" not in word]
    if len(files) > 1:
        parser.error(f"got {len(files)} specs ({', '.join(files)}); give one, overrides hold a '='")
    args.spec = files[0] if files else None
    args.overrides = [word for word in args.words if "=" in word]
    return args


def run_job(job: Callable[[], tuple[BaseModel, int]]) -> int:
    """Run `job`, print its report on stdout, and return the process's exit code.

    Args:
        job: does the work and returns its report and exit code. A `SpecError` becomes one line
            on stderr and exit code 2, a `JobError`, Ctrl-C or SIGTERM (see `cluster.connect`) one
            line and exit code 1; any other exception rises with its traceback (exit code 1).
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("factory").setLevel(logging.INFO)
    try:
        # Libraries print what they like; stdout is the report's alone.
        with contextlib.redirect_stdout(sys.stderr):
            report, code = job()
    except SpecError as error:
        sys.stderr.write(f"error: {error}\n")
        return WRONG
    except JobError as error:
        sys.stderr.write(f"failed: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return FAILED
    sys.stdout.write(json.dumps(report.model_dump(mode="json"), indent=2) + "\n")
    return code


def note_unused_address(address: str | None, why: str) -> None:
    """Say that `--address`, which every job takes, changes nothing here."""
    if address is not None:
        _LOG.info("--address %s: is not used; %s", address, why)


def absolute_root(root: str) -> str:
    """`root` as a URL or an absolute path.

    A relative path counts from the shell's folder; in a submitted Ray job, whose own folder is
    thrown away, from `factory` in the home folder of the machine that runs the job.
    """
    if "://" in root:
        return root
    # Ray's job manager sets it for the commands that it runs.
    is_submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    base = Path.home() / "factory" if is_submitted else Path.cwd()
    return str((base / Path(root).expanduser()).resolve())
