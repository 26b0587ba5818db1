"""jobs/verify.py as a command: what it prints, and its exit codes."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from tests.datasets import make_dataset

JOB = Path(__file__).parents[2] / "jobs" / "verify.py"


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("job")
    make_dataset(folder, tiny_model)
    return folder


@pytest.fixture
def root(clean_root, tmp_path):
    return shutil.copytree(clean_root, tmp_path / "out")


@pytest.fixture
def verify(monkeypatch, capsys, tmp_path):
    """Runs the job in `tmp_path` with the words given; returns exit code, JSON and stderr."""
    monkeypatch.chdir(tmp_path)

    def job(*words):
        monkeypatch.setattr(sys, "argv", ["verify.py", *words])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(JOB), run_name="__main__")
        out, err = capsys.readouterr()
        return stop.value.code, json.loads(out) if out else None, err

    return job


def test_clean_root_ends_with_0(root, verify):
    code, report, _ = verify()
    assert (code, report["ok"], report["root"]) == (0, True, str(root))


def test_mismatch_ends_with_3_and_names_shard_and_what_mends_it(root, verify):
    file = sorted((root / "data").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-1])
    code, report, _ = verify("--root", "out")
    assert code == 3
    assert [finding["shard"] for finding in report["findings"]] == [1]
    assert "recheck=true" in report["mend"]


def test_incomplete_root_ends_with_1(root, verify):
    for folder in ("data", "records/00000"):
        sorted((root / folder).iterdir())[0].unlink()
    code, report, _ = verify()
    assert (code, report["missing"]) == (1, [0])


def test_no_root_ends_with_2_and_names_the_command_that_makes_one(verify):
    code, report, err = verify()
    assert (code, report) == (2, None)
    assert "make generate" in err


def test_only_writes_the_file_beside_the_caller(root, verify, tmp_path):
    code, report, _ = verify("only=cat-00000-000003")
    assert (code, report["stored"]) == (0, "same")
    assert (tmp_path / "cat-00000-000003.png").exists()


def test_only_beside_another_task_ends_with_2(root, verify):
    code, _, err = verify("only=cat-00000-000003", "replay=0.5")
    assert code == 2
    assert "only" in err


def test_dry_run_checks_nothing(root, verify):
    sorted((root / "data").iterdir())[0].write_bytes(b"")
    code, report, _ = verify("--dry-run", "replay=0.5")
    assert (code, report["num_shards"], report["replay_batches"]) == (0, 2, 3)
