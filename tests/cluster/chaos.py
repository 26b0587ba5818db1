"""What may die while a job works: processes, machines, the driver, a disk, the object store."""

import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.cluster.heads import BIN, PROJECT, STARTED, Head, free_ports

NUM_NODES = 2
MOST_STRIKES = 3
MOST_RUNS = 6
PATIENCE_SECONDS = 240

Strike = Callable[[random.Random], str | None]
"""Disturbs what runs; says what it hit, or None if nothing was there to hit."""


class Machines:
    """Nodes of a cluster, one CPU each; every one is a tree of processes that dies as a whole."""

    def __init__(self, head: Head) -> None:
        """Start them, and wait until they have joined the head."""
        self._head = head
        self._starting: subprocess.Popen[str] | None = None
        self._nodes = [self._start() for _ in range(NUM_NODES)]
        self._wait()

    def lose_process(self, chance: random.Random) -> str | None:
        """Kill one process that draws."""
        actors = [process for process in self._processes() if _draws(process)]
        if not actors:
            return None
        try:
            chance.choice(actors).kill()
        except psutil.NoSuchProcess:
            return None
        return "actor"

    def lose_machine(self, chance: random.Random) -> str:
        """Kill all processes of a node, and start another one, as a spot market does."""
        lost = chance.randrange(len(self._nodes))
        _kill_tree(self._nodes[lost])
        self._nodes[lost] = self._start()
        return "machine"

    def end(self) -> None:
        """Kill all nodes."""
        for node in self._nodes:
            _kill_tree(node)

    def _start(self) -> subprocess.Popen[str]:
        # Nodes that start on one machine at the same time choose the same names for their sockets.
        self._wait()
        agent, agent_grpc, metrics = free_ports(3)
        shell = {name: value for name, value in self._head.shell.items() if name != "RAY_ADDRESS"}
        self._starting = subprocess.Popen(
            [
                *(BIN / "ray", "start", f"--address={self._head.address}", "--block"),
                *("--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000"),
                *("--include-log-monitor=false", f"--dashboard-agent-listen-port={agent}"),
                *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
            ],
            env=shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self._starting

    def _wait(self) -> None:
        """Wait until the node that was started last has joined, if it still lives."""
        if self._starting is not None and self._starting.poll() is None:
            assert self._starting.stdout is not None
            assert any(STARTED in line for line in self._starting.stdout)
        self._starting = None

    def _processes(self) -> Iterator[psutil.Process]:
        for node in self._nodes:
            with suppress(psutil.NoSuchProcess):
                yield from psutil.Process(node.pid).children(recursive=True)


def _draws(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("ray::MapWorker" in word for word in process.cmdline())
    return False


def _kill_tree(process: subprocess.Popen[str]) -> None:
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in tree:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


class Disk:
    """A small disk of its own, which may be full for a while."""

    def __init__(self, folder: Path) -> None:
        """The disk that is mounted at `folder`."""
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, _: random.Random) -> str:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**16))
        return "disk"

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk | None]:
    """A disk of 16 MiB mounted at `folder`; None where this user may not mount."""
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True
        ).returncode
    )
    if not mounted:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@dataclass
class Outcome:
    """What a disturbed dataset took."""

    landed: list[str] = field(default_factory=list)
    """What was hit, in this order."""
    codes: list[int] = field(default_factory=list)
    """Exit codes of the runs, the last of them 0."""
    last_words: list[str] = field(default_factory=list)
    """The last line of each run on stderr: what a run that failed gave as its reason."""
    seconds: float = 0.0
    """From the first start to the last end."""
    begun: int = 0
    """Shards that were begun, each time counted."""


def make_disturbed(
    words: Sequence[str],
    head: Head,
    num_done: Callable[[], int],
    num_shards: int,
    strikes: dict[str, Strike],
    mend: Callable[[], None],
    chance: random.Random,
) -> Outcome:
    """Run a job, disturb it, and run it again until it ends well.

    Args:
        words: of the job, `jobs/generate.py` first.
        head: of the cluster it runs on.
        num_done: how many records there are.
        num_shards: how many there will be; disturbances fall into the first three quarters.
        strikes: name -> what may happen; "driver" is added. None: nothing does.
        mend: makes good what would stand against the next run.
        chance: decides what happens, how often and when.
    """
    outcome, started = Outcome(), time.monotonic()
    with _running(words, head, outcome) as job:
        moments = [chance.randint(1, 3 * num_shards // 4) for _ in range(MOST_STRIKES)]
        for moment in sorted(moments[: chance.randint(1, MOST_STRIKES)]):
            name = chance.choice([*strikes, "driver"])
            while num_done() < moment and job.poll() is None:
                time.sleep(0.02)
            if job.poll() is not None or not strikes:
                break
            if name == "driver":
                job.send_signal(signal.SIGKILL)
                outcome.landed.append(name)
                break
            hit = strikes[name](chance)
            outcome.landed += [] if hit is None else [hit]
        outcome.codes.append(job.wait(PATIENCE_SECONDS))
    while outcome.codes[-1] != 0 and len(outcome.codes) < MOST_RUNS:
        mend()
        with _running(words, head, outcome) as job:
            outcome.codes.append(job.wait(PATIENCE_SECONDS))
    outcome.seconds = time.monotonic() - started
    return outcome


@contextmanager
def _running(
    words: Sequence[str], head: Head, outcome: Outcome
) -> Iterator[subprocess.Popen[bytes]]:
    shell = {name: value for name, value in head.shell.items() if name != "RAY_ADDRESS"}
    with tempfile.TemporaryFile() as said:
        job = subprocess.Popen(
            [str(BIN / "python"), *words, "--address", head.address],
            cwd=PROJECT,
            env=shell,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            yield job
        finally:
            job.kill()
            job.wait()
            said.seek(0)
            lines = said.read().decode().splitlines()
            outcome.last_words.append(lines[-1] if lines else "")
