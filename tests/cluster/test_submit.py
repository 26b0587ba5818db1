"""`ray job submit --working-dir .` from a checkout, on a real head with token authentication."""

import re
import time
from pathlib import Path

import pytest

from factory.generate.prepare import prepare
from factory.records import dataset_digest
from tests.cluster.heads import report_in
from tests.datasets import SMALL, make_dataset, plain_words, small_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

MANY = 16_000
"""Images that take longer than `ray job stop`."""
PATIENCE_SECONDS = 120


def until(condition):
    """What `condition` says at last, looked at again and again while processes do their work."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE_SECONDS} s for {condition}"
        time.sleep(0.05)
    return found


def generate(model, num_images):
    asked = {**SMALL, "num_images": num_images}
    words = [*plain_words(model), *(f"{key}={value}" for key, value in asked.items())]
    return ["--", "python", "jobs/generate.py", *words]


def assert_readable(log):
    """Lines of text: nothing moves the cursor or sets a colour."""
    assert set(re.findall(r"[^\x20-\x7e]", log)) <= {"\n", "\t"}


def test_a_job_that_was_stopped_goes_on_when_it_is_submitted_again(head, tiny_model, tmp_path):
    root = Path(head.shell["HOME"], "factory", "out")
    submitted = head.submit("--no-wait", "--submission-id", "first", *generate(tiny_model, MANY))
    assert submitted.returncode == 0, submitted.stderr
    until(lambda: [*root.glob("records/*/*.json")])
    stopped = head.run("ray", "job", "stop", "first")
    assert "was stopped" in stopped.stdout, stopped.stdout
    log = head.log_of("first")
    assert_readable(log)
    assert log.splitlines()[-1] == "stopped; the same command goes on from here"
    done = prepare(small_spec(tiny_model, num_images=MANY), str(root)).inventory.records
    wanted = (max(done) + 3) * SMALL["shard_size"]

    again = head.submit("--submission-id", "again", *generate(tiny_model, wanted))
    assert again.returncode == 0, again.stdout + again.stderr
    report = report_in(again.stdout)
    assert (report["root"], report["num_images"]) == (str(root), wanted)
    assert report["made"] + len(done) == report["num_shards"] == max(done) + 3
    expected = make_dataset(tmp_path / "expected", tiny_model, num_images=wanted)
    assert report["digest"] == dataset_digest(expected.inventory.records)
    log = head.log_of("again")
    assert_readable(log)
    assert re.search(r"^[\d,]+ of [\d,]+ images, .* gone", log, re.MULTILINE)
    assert report_in(log) == report


def test_the_token_decides_who_may_submit_and_the_upload_what_runs(head, tmp_path):
    script = ["--", "python", "-P", "-c", "import factory; print(factory.__file__)"]
    wrong = tmp_path / "token"
    wrong.write_text("2" * 64)
    refused = head.submit(*script, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert refused.returncode != 0
    assert "authentication" in (refused.stdout + refused.stderr).lower()
    accepted = head.submit(*script)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert re.search(r"working_dir_files/\S+/factory/__init__.py", accepted.stdout)


@pytest.mark.parametrize("token", [None, "2" * 64], ids=["missing", "wrong"])
def test_a_driver_without_the_token_is_told_so(head, tiny_model, tmp_path, token):
    file = tmp_path / "token"
    if token is not None:
        file.write_text(token)
    _, _, *job = generate(tiny_model, 16)
    words = [*job, "--root", tmp_path / "root", "--address", head.address]
    refused = head.run("python", *words, RAY_AUTH_TOKEN_PATH=str(file))
    assert refused.returncode == 2, refused.stderr
    assert f"error: --address {head.address}" in refused.stderr
    assert "RAY_AUTH_TOKEN_PATH" in refused.stderr
    assert not (tmp_path / "root").exists()
