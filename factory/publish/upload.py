"""Content on its way to the Hub: files to publish, and what of them is stored there already."""

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd
from huggingface_hub.utils import disable_progress_bars

from factory.progress import duration
from factory.publish.repository import Repository
from factory.publish.retry import upload_errors
from factory.spec import JobError
from factory.store import Store

_LOG = logging.getLogger(__name__)
_GROUP_BYTES = 64 * 2**20
_GROUP_FILES = 100
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class PushFile:
    """A file to publish, known by its content; its bytes are read when they are sent."""

    sha256: str
    num_bytes: int
    read: Callable[[], bytes]

    @classmethod
    def of_bytes(cls, data: bytes) -> "PushFile":
        """A file that is in memory."""
        return cls(hashlib.sha256(data).hexdigest(), len(data), lambda: data)

    @classmethod
    def of_store(cls, store: Store, name: str, *, sha256: str, num_bytes: int) -> "PushFile":
        """A file of a root, whose record says digest and size."""
        return cls(sha256, num_bytes, lambda: store.get(name))


class Uploads:
    """Files of one push: stores what the Hub keeps in LFS, group by group, ahead of the commit."""

    def __init__(
        self, repository: Repository, files: Mapping[str, PushFile], revision: str
    ) -> None:
        """Nothing is read or sent yet."""
        self._repository = repository
        self._files = files
        self._revision = revision
        self._stored: dict[str, CommitOperationAdd] = {}

    def store(self, paths: Sequence[str]) -> None:
        """Store the content of those that go to LFS; no commit names it yet.

        What the Hub holds already is not sent, and what was stored by an earlier call not read.

        Raises:
            JobError: if a file is not what its digest says, or the Hub does not take it.
        """
        waiting = [path for path in paths if path not in self._stored]
        progress = _Progress(self._num_bytes(waiting))
        for group in _groups(waiting, self._files):
            self._store_group([self._new_operation(path) for path in group])
            progress.add(self._num_bytes(group))

    def operations(self, paths: Sequence[str]) -> list[CommitOperationAdd]:
        """What adds the files to a commit.

        They serve any number of commits that fail; the client forbids to use one again after the
        commit that comes about.
        """
        return [self._stored.get(path) or self._new_operation(path) for path in paths]

    def _store_group(self, operations: list[CommitOperationAdd]) -> None:
        repo_id = self._repository.repo_id
        # The client's bars move the cursor of what is no terminal, too.
        bars = nullcontext() if sys.stderr.isatty() else disable_progress_bars()
        first = operations[0].path_in_repo
        with bars, upload_errors(f"{repo_id}: uploading {first} and what follows"):
            self._repository.api.preupload_lfs_files(
                repo_id, operations, repo_type="dataset", revision=self._revision
            )
        for operation in operations:
            # The client empties what it has stored; other files travel in the commit itself.
            if operation.path_or_fileobj == b"" and operation.upload_info.size:
                self._stored[operation.path_in_repo] = operation

    def _new_operation(self, path: str) -> CommitOperationAdd:
        file = self._files[path]
        operation = CommitOperationAdd(path, file.read())
        found = operation.upload_info.sha256.hex()
        if found != file.sha256:
            raise JobError(
                f"{path}: sha256 of what was read is {found}, its record says {file.sha256}; "
                "nothing was committed: verify the root, make the shard again and publish again"
            )
        return operation

    def _num_bytes(self, paths: Sequence[str]) -> int:
        return sum(self._files[path].num_bytes for path in paths)


class _Progress:
    """A line about bytes every few seconds, and at the end."""

    def __init__(self, num_bytes: int) -> None:
        self._total = num_bytes
        self._done = 0
        self._started = self._spoke = time.monotonic()

    def add(self, num_bytes: int) -> None:
        self._done += num_bytes
        now = time.monotonic()
        if now - self._spoke >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._spoke = now
            _LOG.info("%s", self._line(max(now - self._started, 1e-9)))

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else float("inf")
        return (
            f"{self._done / 1e6:,.1f} of {self._total / 1e6:,.1f} MB, {rate / 1e6:,.1f} MB/s, "
            f"{duration(seconds)} gone, {duration(left)} to go"
        )


def _groups(paths: Sequence[str], files: Mapping[str, PushFile]) -> Iterator[list[str]]:
    group: list[str] = []
    num_bytes = 0
    for path in paths:
        size = files[path].num_bytes
        if group and (num_bytes + size > _GROUP_BYTES or len(group) == _GROUP_FILES):
            yield group
            group, num_bytes = [], 0
        group.append(path)
        num_bytes += size
    if group:
        yield group
