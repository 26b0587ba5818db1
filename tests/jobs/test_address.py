"""Every job takes the same words, --address among them, be there work for a cluster or not."""

import runpy
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"


def look(job, words, capsys, monkeypatch):
    """Exit code, stdout and stderr of a dry run in this process."""
    monkeypatch.setattr(sys, "argv", [str(job), *words, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(job), run_name="__main__")
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        *((job, []) for job in sorted(path.stem for path in JOBS.glob("*.py"))),
        ("verify", ["only=cat-00000-000003"]),
    ],
)
def test_a_job_looks_the_same_with_an_address(job, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = JOBS / f"{job}.py"
    without = look(path, words, capsys, monkeypatch)
    # Nothing listens there, so whoever connects would say so.
    assert look(path, [*words, "--address", "127.0.0.1:1"], capsys, monkeypatch) == without
