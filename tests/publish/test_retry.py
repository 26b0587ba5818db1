"""What fails in an upload is tried again if it may pass, and told in a line if not."""

import httpx2
import pytest

from factory.publish.retry import ask_hub, upload_errors
from factory.spec import JobError
from tests.publish.conftest import refused


def fail(error: Exception, cause: Exception | None = None):
    """A call that fails as an upload does, and how often it was made."""
    calls = []

    def call():
        calls.append(None)
        with upload_errors("storing a.parquet"):
            raise error from cause

    return call, calls


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("Data processing error: CAS service error"), None),
        (RuntimeError("Error while uploading"), httpx2.ReadError("cut")),
        (ConnectionError("reset"), None),
        (TimeoutError("late"), None),
    ],
)
def test_fault_of_the_way_is_tried_again_until_patience_ends(patience, waits, error, cause):
    call, calls = fail(error, cause)
    with refused(JobError, "pushing: failed 5 times", str(error)):
        ask_hub(call, "pushing", patience)
    assert (len(calls), len(waits)) == (5, 4)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("object not found"),
        PermissionError("no rights"),
        OSError(28, "No space left on device"),
        ValueError("refused"),
    ],
)
def test_fault_that_stays_is_told_at_once(patience, waits, error):
    call, calls = fail(error)
    with refused(JobError, "storing a.parquet", str(error), "nothing was committed"):
        ask_hub(call, "pushing", patience)
    assert (len(calls), waits) == (1, [])
