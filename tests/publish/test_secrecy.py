"""What watches every test of this folder for tokens notices them, wherever they are shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
WATCHED = "from tests.publish.conftest import tokens_stay_secret"
LEAKS = """
import logging, os
import pytest
from tests.publish.conftest import WRITE

@pytest.fixture
def leak():
    logging.getLogger("factory").debug("token %s", WRITE)

def test_setup(leak): pass
def test_record(): logging.getLogger("factory").debug("token %s", WRITE)
def test_library(): logging.getLogger("huggingface_hub.x").debug("token %s", WRITE)
def test_traceback():
    try:
        raise ValueError(WRITE)
    except ValueError:
        logging.getLogger("factory").exception("failed")
def test_stdout(): print(WRITE)
def test_stderr(): os.write(2, WRITE.encode())
def test_nothing(): logging.getLogger("factory").debug("hf_ and no more")
"""


def test_token_that_a_test_shows_is_noticed_in_records_tracebacks_and_output(tmp_path):
    (tmp_path / "conftest.py").write_text(WATCHED)
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rpE", "-p", "no:cacheprovider", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    noticed = set(re.findall(r"^ERROR \S+::test_(\w+)", done.stdout, re.MULTILINE))
    assert noticed == {"setup", "record", "library", "traceback", "stdout", "stderr"}
    assert "7 passed, 6 errors" in done.stdout
