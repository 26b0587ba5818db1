import json
import sys

import pytest
from pydantic import BaseModel

from factory.cli import DONE, FAILED, WRONG, run_job
from factory.spec import JobError, SpecError


class Report(BaseModel):
    made: int


def test_stdout_holds_the_report_alone(capsys):
    def job():
        sys.stdout.write("a library says hello\n")
        return Report(made=3), DONE

    assert run_job(job) == DONE
    out, err = capsys.readouterr()
    assert json.loads(out) == {"made": 3}
    assert err == "a library says hello\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SpecError("seed: got x"), WRONG, "error: seed: got x\n"),
        (JobError("loss is nan"), FAILED, "failed: loss is nan\n"),
        (KeyboardInterrupt(), FAILED, "stopped; the same command goes on from here\n"),
    ],
)
def test_what_ends_a_job_is_one_line_and_an_exit_code(capsys, error, code, line):
    def job():
        raise error

    assert run_job(job) == code
    assert capsys.readouterr() == ("", line)
