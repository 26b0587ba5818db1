"""Connect to Ray quietly; size pools of actors by what the cluster holds; run tasks."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

# Ray reads them when it is imported. It prints that a task will be retried whenever an actor goes,
# the ones that the end of a run takes down included; who dies too often is named by `give_up`.
# And it prints, again and again, that actors wait for machines, which `ActorShape` says once.
os.environ.setdefault(
    "RAY_DEDUP_LOGS_SKIP_REGEX", "infinite retries remaining|infeasible resource requests"
)
# What it does print, it colours even in a file.
os.environ.setdefault("RAY_COLOR_PREFIX", "0")

import ray
import ray.exceptions

from factory.spec import JobError, Resources, SpecError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset
    from ray.train import ScalingConfig

_LOG = logging.getLogger(__name__)
_Name = TypeVar("_Name")

LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
"""Generated images never travel through the object store, so most stages need little of it."""
_PRIVATE = "factory-private"
"""Namespace of an instance that this process started: it will never grow."""
WAVE = 10_000
"""Tasks handed to Ray at once: enough to hide the start of a pool, few enough for the driver."""
AT_ONCE = 64
"""Actors that a pool on a cluster starts with, room or not: those that wait make it grow."""
MOST_DEATHS = 3
"""Times that processes may die in one task, without their machines, before it is given up."""
LOST = (
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)
"""What Ray raises of a task whose process died: with its machine, by itself, or for want of memory.
`count_deaths` counts the last two."""
MOST_STARTS = 3
"""Times that a private instance is started on a machine too busy for it."""
ANSWER_SECONDS = 10.0
"""How long a cluster may take to accept a connection, and to answer on it."""
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty one (RFC 9113, sections 3.4 and 6.5); byte 3 is the kind of frame."""


@contextmanager
def connect(
    address: str | None, *, object_store_bytes: int = LOCAL_OBJECT_STORE_BYTES
) -> Iterator[None]:
    """A connection to Ray; one that this call made is closed at the end.

    While it is open, SIGTERM (`ray job stop`, `kill`) is KeyboardInterrupt, as Ctrl-C is.

    Args:
        address: cluster to join; None: the one named by RAY_ADDRESS (as in a submitted job), else
            a private instance on this machine. An existing connection is used as it is.
        object_store_bytes: size of a private instance's object store, at least 256 MiB.

    Raises:
        SpecError: if the cluster cannot be reached.
        JobError: if this machine is too busy to start a private instance.
    """
    if ray.is_initialized():
        yield
        return
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_answers(target)
    options = {}
    if target == "local":
        options = {
            "object_store_memory": max(object_store_bytes, LOCAL_OBJECT_STORE_BYTES),
            "include_dashboard": False,
            "namespace": _PRIVATE,
        }
    # Ray's core calls a detail of Ray Data's actor pools an error; failures arrive as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with _sigterm_given_back():
        try:
            _init(target, options)
        except ray.exceptions.AuthenticationError as error:
            raise _not_let_in(target, error.message) from None
        except (ConnectionError, ValueError) as error:
            # Ray says nothing of a token that is wrong; but a head did answer at HOST:PORT.
            if isinstance(error, ConnectionError) and ":" in target:
                raise _not_let_in(target, error) from None
            raise _no_cluster(target, error) from None
        # Not before: Ray sets its own, which ends the process without a word.
        _on_sigterm(signal.default_int_handler)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _sigterm_given_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        _on_sigterm(before)


def _on_sigterm(handler: Callable[[int, FrameType | None], Any] | int | None) -> None:
    # The main thread alone may set one, and it alone is interrupted.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _init(target: str, options: dict[str, Any]) -> None:
    for left in reversed(range(MOST_STARTS)):
        try:
            with _silent_stderr():
                ray.init(
                    address=target, logging_level=logging.ERROR, log_to_driver=False, **options
                )
        except Exception as error:
            # Ray gives its own processes 30 seconds, and raises no class of its own after that.
            if "timed out during startup" not in str(error):
                raise
            if not left:
                raise JobError(
                    f"Ray did not start within 30 seconds, {MOST_STARTS} times: this machine is "
                    "too busy; try again when it is not, or give --address"
                ) from None
            _LOG.warning("Ray did not start within 30 seconds; trying again")
        else:
            return


@contextmanager
def _silent_stderr() -> Iterator[None]:
    # The core announces its log level on file descriptor 2, whatever that level is.
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _check_answers(target: str) -> None:
    # Ray itself would knock for over a minute where nothing listens.
    host, colon, port = target.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as there:
            if not _speaks_grpc(there):
                raise ConnectionError("something else listens there")
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(target, error) from None


def _speaks_grpc(there: socket.socket) -> bool:
    """Whether an HTTP/2 server answers, as Ray's are: it opens with a frame of its settings."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True
    there.settimeout(ANSWER_SECONDS)
    there.sendall(_HTTP2_PREFACE + _SETTINGS_FRAME)
    return there.recv(len(_SETTINGS_FRAME))[3:4] == _SETTINGS_FRAME[3:4]


def _no_cluster(target: str, error: Exception) -> SpecError:
    return SpecError(
        f"--address {target}: no Ray cluster answers ({error}); give HOST:PORT of a head started "
        "by `ray start --head`, or unset --address and RAY_ADDRESS to use this machine alone"
    )


def _not_let_in(target: str, why: object) -> SpecError:
    return SpecError(
        f"--address {target}: the cluster there does not let this driver in ({why}); with "
        "RAY_AUTH_MODE=token, give its token in ~/.ray/auth_token or in the file that "
        "RAY_AUTH_TOKEN_PATH names"
    )


class ActorShape:
    """What one actor or task reserves, and how many of them the cluster holds at the moment."""

    def __init__(self, resources: Resources, *, threads: int) -> None:
        """Fill what `resources` leaves open from the cluster; needs a connection.

        Raises:
            SpecError: if not even one actor fits on this machine. A cluster may grow, so there
                the same is only a warning. If `num_gpus` is open and the cluster is empty.
        """
        cluster = ray.cluster_resources()
        here = {"CPU": cluster.get("CPU", 0.0), "GPU": cluster.get("GPU", 0.0)}
        self.num_gpus = resources.num_gpus
        if self.num_gpus is None:
            if not any(here.values()):
                raise SpecError(
                    "resources.num_gpus: is not given, and the cluster has no machine yet that "
                    "could tell; give 1 for machines with GPUs, 0 for others"
                )
            self.num_gpus = 1.0 if here["GPU"] else 0.0
        self.num_cpus = resources.num_cpus
        if self.num_cpus is None:
            self.num_cpus = 1.0 if self.num_gpus else float(min(threads, here["CPU"] or threads))
        self.accelerator_type = resources.accelerator_type
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        fits = min(int(here[kind] / amount) for kind, amount in wanted.items() if amount)
        if not fits:
            _say_too_small(wanted, here)
        self.capacity = max(1, fits)

    @property
    def options(self) -> dict[str, Any]:
        """What it reserves, as Ray's options."""
        return {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "accelerator_type": self.accelerator_type,
        }

    def group(self, num_workers: int) -> "ScalingConfig":
        """A group of Ray Train workers, each of this shape.

        Raises:
            SpecError: if they do not fit on this machine at once; a cluster may grow, so there the
                same is only a warning.
        """
        from ray.train import ScalingConfig  # a second that only training needs

        if self.capacity < num_workers:
            text = (
                f"num_workers: is {num_workers}, but there is room for {self.capacity} workers of "
                f"{self.num_cpus:g} CPUs and {self.num_gpus:g} GPUs"
            )
            if _is_private():
                raise SpecError(f"{text}; ask for fewer, or give --address")
            _LOG.warning("%s; waiting for the cluster to grow", text)
        gpus = {"GPU": self.num_gpus} if self.num_gpus else {}
        return ScalingConfig(
            num_workers=num_workers,
            use_gpu=bool(self.num_gpus),
            resources_per_worker={"CPU": self.num_cpus, **gpus},
            accelerator_type=self.accelerator_type,
        )

    def pool(self, resources: Resources, *, num_tasks: int) -> tuple[int, int]:
        """Smallest and largest size of a pool for `num_tasks`: never more actors than tasks."""
        if _is_private():
            # All at once: one after the other, their starts would leave cores idle.
            size = min(resources.max_actors or num_tasks, self.capacity, num_tasks)
            return size, size
        # Nobody says how far a cluster may grow. Ray Data itself asks for twice what there is, and
        # an autoscaler that may not give all of it gives nothing; for actors it gives what it may.
        largest = min(resources.max_actors or num_tasks, num_tasks)
        return min(max(resources.min_actors, AT_ONCE), largest), largest


class Actor(Protocol):
    """What a pool runs."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do one task; rows are small and hold plain values."""
        ...

    def give_up(self, row: dict[str, Any], error: str) -> dict[str, Any]:
        """The row that stands for a task in which processes died again and again."""
        ...


class _Guarded:
    """An actor that does not begin a task in which its processes keep dying.

    Ray starts a dead actor again and hands it the same task, for ever: as often as machines are
    lost, but also as often as one task needs more memory than there is. So each beginning is
    written down on the machine until its end; where its disk is full, work goes on without.
    """

    def __init__(self, run: str, actor: type[Actor], args: tuple[object, ...]) -> None:
        self._run = run
        self._actor = actor(*args)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        begun = Path(tempfile.gettempdir(), f"factory-{self._run}-{row['task']}")
        deaths = _begin(begun)
        task = {name: value for name, value in row.items() if name != "task"}
        if deaths >= MOST_DEATHS:
            result = self._actor.give_up(task, _died(deaths))
        else:
            result = self._actor(task)
        with suppress(OSError):
            begun.unlink()
        return result


def _died(deaths: int) -> str:
    return (
        f"the process died {deaths} times in this task; if memory is short, lower batch_size or "
        "resources.max_actors"
    )


def _begin(begun: Path) -> int:
    """How many processes died in a task, whose beginnings are the letters of the file `begun`."""
    try:
        with begun.open("ab") as file:
            file.write(b"x")
        return begun.stat().st_size - 1
    except OSError as error:
        _LOG.warning("%s: deaths of processes are not counted (%s)", begun, error)
        return 0


@cache
def _end_what_is_dropped() -> None:
    """Have Ray Data end the actors that it drops while they wait for a machine.

    It lets go of them when no task is left for them, but each stays in Ray's queue until it has
    started once. A lost actor with tasks left waits behind all of them: one death cost four minutes
    on two CPUs (ray 2.60).
    """
    # Ray Data itself imports it at the first pool.
    from ray.data._internal.execution.operators.actor_pool_map_operator import _ActorPool

    drop = _ActorPool._try_remove_pending_actor

    def drop_and_end(self: _ActorPool) -> bool:
        waiting = dict(self._pending_actors)
        is_dropped = drop(self)
        for ready in waiting.keys() - self._pending_actors.keys():
            ray.kill(waiting[ready])
        return is_dropped

    _ActorPool._try_remove_pending_actor = drop_and_end


def map_on_actors(
    rows: Iterable[dict[str, Any]],
    actor: type[Actor],
    args: tuple[object, ...],
    *,
    resources: Resources,
    threads: int,
    in_flight: int = 2,
) -> Iterator[dict[str, Any]]:
    """Send rows through a pool of actors, one at a time each; results come in no fixed order.

    Args:
        rows: small rows of plain values; every one is a task.
        actor: its instances live for many tasks, and are started again where they died.
        args: arguments of its constructor.
        resources: what one actor reserves, and how many there may be.
        threads: CPU threads that one actor computes with.
        in_flight: tasks that an actor holds at most, that in work included. 2 hides the way to
            the actor; 1 leaves none waiting behind a long one while another actor is idle.

    Raises:
        SpecError: if not even one actor fits.
    """
    from ray.data import ActorPoolStrategy  # a second that only pools need

    _end_what_is_dropped()
    shape = ActorShape(resources, threads=threads)
    run = uuid.uuid4().hex
    tasks = ({**row, "task": number} for number, row in enumerate(rows))
    for wave, num_tasks in waves(tasks):
        smallest, largest = shape.pool(resources, num_tasks=num_tasks)
        # Ray's default is nearly two tasks an actor, which a pool with one in flight never has.
        scaling = wave.context.autoscaling_config
        scaling.actor_pool_util_upscaling_threshold = min(
            scaling.actor_pool_util_upscaling_threshold, in_flight
        )
        results = wave.map(
            _Guarded,  # pyright: ignore[reportArgumentType] - Ray makes instances of it
            fn_constructor_args=(run, actor, args),
            compute=ActorPoolStrategy(
                min_size=smallest, max_size=largest, max_tasks_in_flight_per_actor=in_flight
            ),
            **shape.options,
        )
        yield from rows_of(results)


def run_tasks(
    function: Callable[..., Any],
    asked: Mapping[_Name, tuple[object, ...]],
    *,
    resources: Resources,
    threads: int,
    runtime_env: dict[str, Any] | None = None,
) -> Iterator[tuple[_Name, Any | Exception]]:
    """Run tasks that share nothing worth an actor.

    Processes go on from one task to the next, but for those with a GPU: a process cannot change it,
    so Ray gives each of these tasks a new one.

    Args:
        function: does one task.
        asked: name of a task -> arguments of `function`; references to objects are resolved.
        resources: what one task reserves, and how many of them run at once.
        threads: CPU threads that one task computes with.
        runtime_env: Ray's environment of the processes, which only tasks of the same one share.

    Yields:
        The name of a task, and its result or the error that took its place; in the order in which
        they end.

    Raises:
        SpecError: if not even one task fits.
    """
    shape = ActorShape(resources, threads=threads)
    # Not by `options`, of whose GPUs Ray takes no notice when it decides whether a process goes on.
    # Ray itself would try a task without end for which there is too little memory.
    options = shape.options | {"runtime_env": runtime_env, "max_retries": 0}
    task = ray.remote(**options)(function)
    left, waiting, deaths = iter(asked), {}, Counter[_Name]()
    most = resources.max_actors or len(asked)
    while True:
        for name in islice(left, most - len(waiting)):
            waiting[task.remote(*asked[name])] = name
        if not waiting:
            return
        (ended,), _ = ray.wait(list(waiting))
        name = waiting.pop(ended)
        try:
            result = ray.get(ended)
        except LOST as error:
            deaths[name] += count_deaths(error)
            if deaths[name] < MOST_DEATHS:
                waiting[task.remote(*asked[name])] = name
            else:
                yield name, JobError(_died(MOST_DEATHS))
        except ray.exceptions.RayError as error:
            yield name, error
        else:
            yield name, result


def count_deaths(error: Exception) -> int:
    """Deaths, 0 or 1, that count against a task of which Ray raised one of `LOST`."""
    return 0 if isinstance(error, ray.exceptions.NodeDiedError) else 1


def reason_of(error: Exception) -> str:
    """The message of what was raised where the work was done."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}"


def rows_of(results: "Dataset") -> Iterator[dict[str, Any]]:
    """Rows as they come; `iter_rows` holds each block back until the next one is there."""
    batches = results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in cast("Iterable[pa.Table]", batches):
        yield from batch.to_pylist()


def waves(rows: Iterable[dict[str, Any]]) -> Iterator[tuple["Dataset", int]]:
    """Rows as datasets of at most `WAVE` rows, with one block, and so one task, a row.

    The driver puts the rows itself: reading them by tasks would hang where a pool of actors
    holds every CPU.
    """
    from ray.data import DataContext, from_items

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A training may take hours, and so may a machine to come; after 30 minutes Ray Data gives up.
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    remaining = iter(rows)
    while wave := list(islice(remaining, WAVE)):
        yield from_items(wave, override_num_blocks=len(wave)), len(wave)


def _is_private() -> bool:
    return ray.get_runtime_context().namespace == _PRIVATE


def _say_too_small(wanted: dict[str, float], here: dict[str, float]) -> None:
    text = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())
    have = ", ".join(f"{amount:g} {kind}" for kind, amount in here.items())
    if _is_private():
        raise SpecError(
            f"resources: an actor or a training needs {text}, this machine has {have}; "
            "ask for less in resources.num_cpus and resources.num_gpus, or give --address"
        )
    _LOG.warning(
        "waiting for the cluster to grow: an actor or a training needs %s, it has %s now",
        text,
        have,
    )
