"""Real Ray heads on this machine, each with a folder, ports and a token of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray.util

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STARTED = "--block"
"""In the last paragraph that `ray start --block` prints: all is started."""
MOST_STARTS = 3
"""Times that a head is started on a machine too busy for it."""


@dataclass(frozen=True)
class Head:
    """A head that runs, and the shell of a person who uses it."""

    address: str
    """Where drivers connect, HOST:PORT."""
    shell: dict[str, str]
    """Environment: the token, and the address of the job API."""
    logs: Path

    def log_of(self, job: str) -> str:
        """All that a job has written."""
        return (self.logs / f"job-driver-{job}.log").read_text()

    def run(self, *words: object, **shell: str) -> subprocess.CompletedProcess[str]:
        """What a command of the virtual environment answers, in the project's folder."""
        return subprocess.run(
            [BIN / str(words[0]), *map(str, words[1:])],
            cwd=PROJECT,
            env={**self.shell, **shell},
            capture_output=True,
            text=True,
            timeout=150,
        )

    def submit(self, *words: object, **shell: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . WORDS`; give `--` before the entry point."""
        return self.run("ray", "job", "submit", "--working-dir", ".", *words, **shell)


def report_in(log: str) -> dict:
    """The report that a job prints."""
    return json.loads(re.search(r"^\{.*?^\}", log, re.DOTALL | re.MULTILINE)[0])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def shell_of(home: Path) -> dict[str, str]:
    """Environment of a shell whose home is `home`, with a token in it."""
    token = home / "token"
    token.write_text("1" * 64)
    token.chmod(0o600)
    shell = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # a job's `python` is PATH's
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    shell.pop("RAY_ADDRESS", None)
    return shell


@contextmanager
def running_head(home: Path, *, num_cpus: int, jobs: bool, autoscaling=None) -> Iterator[Head]:
    """A head that lives as long as the block.

    Args:
        home: home folder of its user.
        num_cpus: logical CPUs of the head.
        jobs: whether it takes jobs, which costs a dozen processes.
        autoscaling: makes of the head's address the options and the environment that let it grow.
    """
    shell = shell_of(home)
    gcs, dashboard, agent, agent_grpc, client, metrics = free_ports(6)
    address = f"{ray.util.get_node_ip_address()}:{gcs}"
    options, environment = autoscaling(address) if autoscaling else ([], {})
    # Unix sockets in the folder limit its path to about 60 characters.
    folder = tempfile.mkdtemp(prefix="ray-")
    command = [
        *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--num-cpus={num_cpus}", "--num-gpus=0", "--object-store-memory=134217728"),
        *(f"--temp-dir={folder}", f"--port={gcs}", "--include-log-monitor=false"),
        *(f"--include-dashboard={jobs}", "--dashboard-host=127.0.0.1"),
        *(f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
        *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
        *(f"--ray-client-server-port={client}", *options),
    ]
    process = _started(command, {**shell, **environment})
    try:
        logs = Path(folder, "session_latest", "logs")
        yield Head(address, {**shell, "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}, logs)
    finally:
        _end(process)


def _started(command: list[object], environment: dict[str, str]) -> subprocess.Popen[str]:
    said = ""
    for _ in range(MOST_STARTS):
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if STARTED in line:
                return process
        # Ray gives its own processes a few seconds, which a busy machine may not.
        if "timed out during startup" not in said:
            break
    raise AssertionError(said)


def _end(process: subprocess.Popen[str]) -> None:
    # Nodes and jobs are among its children's children, and stay them for this one moment.
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    for left in psutil.wait_procs(started, timeout=5)[1]:
        left.kill()
    psutil.wait_procs(started, timeout=5)
