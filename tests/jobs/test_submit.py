"""The literal `ray job submit --working-dir . -- python jobs/generate.py` on a real head."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from factory.generate.prepare import prepare
from factory.records import dataset_digest
from tests.datasets import SMALL, make_dataset, plain_words, small_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_ports(count):
    """Ports that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def head(tmp_path, monkeypatch):
    """Environment of a shell on a private head's machine, whose home is `tmp_path`."""
    token = tmp_path / "token"
    token.write_text("1" * 64)
    token.chmod(0o600)
    gcs, dashboard, agent, agent_grpc, client, metrics = free_ports(6)
    shell = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # the job's `python` is PATH's
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    shell.pop("RAY_ADDRESS", None)
    # Unix sockets in the folder limit its path to about 60 characters.
    folder = tempfile.mkdtemp(prefix="ray-")
    process = subprocess.Popen(
        [
            *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"),
            *("--num-cpus=2", "--object-store-memory=134217728"),
            *(f"--temp-dir={folder}", f"--port={gcs}"),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
            f"--ray-client-server-port={client}",
        ],
        env=shell,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "--block" in line:  # the last paragraph: all is started
            break
    assert process.poll() is None, "".join(said)
    yield {**shell, "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    for left in psutil.wait_procs(started, timeout=10)[1]:
        left.kill()


def test_submitted_job_makes_a_dataset_that_outlives_it(head, tiny_model, tmp_path):
    words = [*plain_words(tiny_model), *(f"{key}={value}" for key, value in SMALL.items())]
    submit = [BIN / "ray", "job", "submit", "--working-dir", ".", "--"]
    job = subprocess.run(
        [*submit, "python", "jobs/generate.py", *words],
        cwd=PROJECT,
        env=head,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert job.returncode == 0, job.stdout + job.stderr
    root = tmp_path / "factory" / "out"
    report = json.loads(re.search(r"^\{.*?^\}", job.stdout, re.DOTALL | re.MULTILINE)[0])
    assert (report["root"], report["num_images"], report["missing"]) == (str(root), 40, [])
    made = prepare(small_spec(tiny_model), str(root))
    expected = make_dataset(tmp_path / "expected", tiny_model)
    assert dataset_digest(made.inventory.records) == dataset_digest(expected.inventory.records)
    assert made.num_pending == 0
