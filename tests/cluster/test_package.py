"""What `ray job submit --working-dir .` uploads, packed by Ray itself."""

import logging
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

PROJECT = Path(__file__).parents[2]
MAX_BYTES = 25e6
"""Most of it is the embedded model; Ray refuses half a gigabyte."""
LEFT_BEHIND = ("out", "out-50", "fits", "adapters", "results", ".venv", ".git", ".hypothesis")


@pytest.fixture(params=[True, False], ids=["with .gitignore", "without .gitignore"])
def packed(request, tmp_path):
    """Names in the package, of a checkout in which all kinds of leftovers lie."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for path in PROJECT.iterdir():
        if path.name in {"factory", "jobs"} or path.is_file():
            (checkout / path.name).symlink_to(path)
    for name in (*LEFT_BEHIND, "tests", "docs/__pycache__"):
        (checkout / name).mkdir(parents=True)
        (checkout / name / "big.bin").touch()
    package = tmp_path / "package.zip"
    create_package(
        str(checkout), package, include_gitignore=request.param, logger=logging.getLogger("quiet")
    )
    assert package.stat().st_size < MAX_BYTES
    return set(zipfile.ZipFile(package).namelist())


def test_the_package_holds_what_a_job_needs_and_no_leftovers(packed):
    needed = {"jobs/generate.py", "jobs/specs/generate_fashion_mnist.yaml", "factory/cluster.py"}
    assert needed <= packed
    assert any(name.startswith("factory/assets/") for name in packed)
    tops = {name.partition("/")[0] for name in packed}
    assert not tops & {*LEFT_BEHIND, "tests", "docs", "benchmarks"}
    assert not [name for name in packed if "__pycache__" in name or name.endswith(".pyc")]
