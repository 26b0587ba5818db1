"""Where a dataset lies: whole files in a folder or an object store, put atomically."""

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from factory.spec import SpecError

INCOMING = ".incoming"
"""Folder of a local root for files that are not whole yet."""

READ_THREADS = 32

_S3_URLS, _GOOGLE_URLS = ("s3://", "s3a://"), ("gs://", "gcs://")
_S3_TRIES = 8
"""Tries of one request: waits that grow up to 20 s bridge an outage of about 40 s. gcsfs tries six
times by itself."""
_S3_FIRST_TRIES = 3
"""Of the first look, which somebody waits for: 2 s until a wrong address is named."""
_DAY = timedelta(days=1)
_LOCAL_TRIES = 8
"""Times that a local file is written which other drivers sweep before it has its name."""
_SWEPT = (errno.ENOENT, errno.ESTALE)
"""What is said of a file that somebody else deleted, here and on another machine's disk."""
_Placed = TypeVar("_Placed")
_LOG = logging.getLogger(__name__)


class Store:
    """A root, local or remote; names are relative and use '/'.

    A file under its final name is always whole: locally it is written beside, synced and
    renamed; an object store shows an object when its upload is complete.
    """

    def __init__(self, url: str) -> None:
        """Open `url`: an absolute path, `s3://`, `gs://`, or `memory://` within one process.

        Raises:
            SpecError: if no such store is known or its client is not installed.
        """
        self.url = url.rstrip("/")
        try:
            self._fs, path = fsspec.core.url_to_fs(self.url, **_options(self.url, _S3_TRIES))
        except (ValueError, ImportError) as error:
            raise SpecError(
                f"root {url}: {error}; give a folder, s3:// (pip install 'factory[s3]') "
                "or gs:// (pip install 'factory[gcs]')"
            ) from None
        self._root = str(path).rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self._is_s3 = "s3" in self._fs.protocol
        # s3fs asks for the size of every file before it reads one, to read large ones in parts.
        self._read_options = {"max_concurrency": 1} if self._is_s3 else {}
        self.is_shared = not isinstance(self._fs, MemoryFileSystem)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        """Travel to actors as the URL alone; each process opens its own client."""
        return Store, (self.url,)

    def put(self, name: str, data: bytes) -> None:
        """Write a whole file, replacing one of that name."""
        if self.is_local:
            self._write(data, lambda incoming: os.replace(incoming, self._local(name)))
        else:
            self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless one of that name exists; say whether it was written."""
        if self.is_local:
            return self._write(data, lambda incoming: _link(incoming, self._local(name)))
        if not self.is_shared:
            if self._fs.exists(self._path(name)):
                return False
            self._fs.pipe_file(self._path(name), data)
            return True
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # S3-compatible servers answer a lost race with a bare EINVAL instead of a conflict.
            if not self.exists(name):
                raise error
            return False
        return True

    def get(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: if there is none of that name.
        """
        return self._fs.cat_file(self._path(name), **self._read_options)

    def get_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read files, many at once; a name that is missing by now is left out."""

        def read(name: str) -> tuple[str, bytes | None]:
            try:
                return name, self.get(name)
            except FileNotFoundError:
                return name, None

        with ThreadPoolExecutor(READ_THREADS) as pool:
            pairs = pool.map(read, names)
            return {name: data for name, data in pairs if data is not None}

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names and sizes in bytes of all files below `folder`, as listed now."""
        return {name: int(entry["size"] or 0) for name, entry in self._list(folder).items()}

    def times(self, folder: str = "") -> dict[str, float]:
        """Names of all files below `folder`, and when each was put, by the store's own clock.

        Times are seconds since 1970, UTC.
        """
        return {name: _put_time(entry) for name, entry in self._list(folder).items()}

    def _list(self, folder: str) -> dict[str, dict[str, Any]]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root) + 1
        return {path[start:]: entry for path, entry in found.items()}

    def exists(self, name: str) -> bool:
        """Whether a file of that name is there now."""
        self._fs.invalidate_cache()
        return self._fs.exists(self._path(name))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; one that is gone already is no error."""
        for name in names:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    def abort_uploads(self, *, before: datetime | None = None) -> list[str]:
        """Abort uploads in parts below the root whose writers died; S3 keeps them, unseen and paid.

        Only files above 100 MiB travel in parts. Google's store forgets such uploads by itself.

        Args:
            before: those begun after it may be under way; default: a day ago.

        Returns:
            Names of the files that did not come to be.
        """
        if not self._is_s3:
            return []
        limit = before or datetime.now(UTC) - _DAY
        bucket, _, prefix = f"{self._root}/".partition("/")
        try:
            dead = [one for one in self._uploads(bucket, prefix) if one["Initiated"] < limit]
            for one in dead:
                with suppress(FileNotFoundError):
                    self._fs.abort_mpu(bucket, one["Key"], one["UploadId"])
        except _client_errors(self.url) as error:
            # Compatible stores may not know the question, and the work is done without an answer.
            _LOG.warning(
                "root %s: cannot look for dead uploads (%s); allow s3:ListBucketMultipartUploads "
                "and s3:AbortMultipartUpload, or let a lifecycle rule of the bucket abort them",
                self.url,
                error,
            )
            return []
        return [one["Key"].removeprefix(prefix) for one in dead]

    def _uploads(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        at: dict[str, str] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            page = self._fs.call_s3("list_multipart_uploads", **at)
            yield from page.get("Uploads", [])
            if not page.get("IsTruncated"):
                return
            at |= {word: page[f"Next{word}"] for word in ("KeyMarker", "UploadIdMarker")}

    def check_shared(self) -> None:
        """Refuse a root that lives in this process alone, where others are to work on it.

        Raises:
            SpecError: for memory://.
        """
        if not self.is_shared:
            raise SpecError(
                f"root {self.url}: memory:// lives in one process, Ray's workers are others; "
                "give a folder, s3:// or gs://"
            )

    @contextmanager
    def shown(self) -> Iterator[str | None]:
        """A file by which a machine can tell that it sees this root, while the block runs.

        Gives its name; None for an object store, which is the same from everywhere.
        """
        if not self.is_local:
            yield None
            return
        name = f"{INCOMING}/shown-{secrets.token_hex(8)}"
        with self._local(name).open("xb") as file:
            # A disk that knows no locks says so again in `is_held`.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield name
            finally:
                self.delete([name])

    def is_held(self, name: str) -> bool:
        """Whether a process that lives shows this root by that file; True if nobody can tell."""
        if not self.is_local:
            return False
        try:
            with Path(self._root, name).open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def check_seen(self, name: str) -> None:
        """Refuse to work on a machine that does not see a file which the driver wrote.

        Raises:
            SpecError: if it is not there.
        """
        if not self.exists(name):
            raise SpecError(
                f"root {self.url}: this machine does not see what the driver wrote there; "
                "on several machines give --root s3://... or a folder that all of them share"
            )

    def check_makeable(self) -> None:
        """Refuse a root that Ray's workers cannot write to; leaves nothing behind.

        Raises:
            SpecError: with the reason.
        """
        self.check_shared()
        self.check_writable()

    def check_reachable(self) -> None:
        """Prove that the root can be looked at; one that is not there yet passes.

        Raises:
            SpecError: with the store's own reason.
        """
        # Amid the work a store that is away is waited for; here somebody waits for an answer.
        hasty, _ = fsspec.core.url_to_fs(self.url, **_options(self.url, _S3_FIRST_TRIES))
        try:
            hasty.exists(self._path(INCOMING))
        except _client_errors(self.url) as error:
            raise SpecError(
                f"root {self.url}: cannot be reached ({error}); check the address and your "
                "credentials, or give another --root"
            ) from None

    def check_writable(self) -> None:
        """Prove that the root can be written, leaving nothing behind.

        Raises:
            SpecError: with the store's own reason.
        """
        name = f"{INCOMING}/probe-{secrets.token_hex(6)}"
        made = self._missing_folders()
        try:
            self.put(name, b"probe")
            self.delete([name])
        except _client_errors(self.url) as error:
            raise SpecError(
                f"root {self.url}: cannot be written ({error}); give another --root"
            ) from None
        finally:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    def _missing_folders(self) -> list[Path]:
        if not self.is_local:
            return []
        incoming = Path(self._root, INCOMING)
        return [folder for folder in (incoming, *incoming.parents) if not folder.exists()]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _local(self, name: str) -> Path:
        path = Path(self._root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write(self, data: bytes, place: Callable[[Path], _Placed]) -> _Placed:
        """Write an unfinished file, and let `place` give it its name."""
        for left in reversed(range(_LOCAL_TRIES)):
            try:
                return place(self._write_incoming(data))
            except OSError as error:
                # A driver that ends sweeps what is unfinished, whoever is at it.
                if error.errno not in _SWEPT or not left:
                    raise
        raise AssertionError("unreachable")

    def _write_incoming(self, data: bytes) -> Path:
        path = self._local(f"{INCOMING}/{secrets.token_hex(8)}")
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path


def _link(incoming: Path, path: Path) -> bool:
    try:
        os.link(incoming, path)
    except FileExistsError:
        return False
    finally:
        incoming.unlink(missing_ok=True)
    return True


def _client_errors(url: str) -> tuple[type[Exception], ...]:
    # No credentials, no route: their clients raise classes of their own, which are no OSErrors.
    if url.startswith(_S3_URLS):
        from botocore.exceptions import BotoCoreError

        return OSError, ValueError, BotoCoreError
    if url.startswith(_GOOGLE_URLS):
        from gcsfs.retry import HttpError  # pyright: ignore[reportMissingImports] - an extra
        from google.auth.exceptions import GoogleAuthError

        return OSError, ValueError, HttpError, GoogleAuthError
    return OSError, ValueError


def _options(url: str, s3_tries: int) -> dict[str, Any]:
    if not url.startswith((*_S3_URLS, *_GOOGLE_URLS)):
        return {}
    # Listings must show what other drivers and actors wrote a moment ago.
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(_S3_URLS):
        retries = {"mode": "standard", "total_max_attempts": s3_tries}
        options["config_kwargs"] = {"retries": retries}
    return options


def _put_time(entry: dict[str, Any]) -> float:
    # Each driver of fsspec has a word of its own: S3, Google, local folders, memory.
    times = (entry.get(word) for word in ("LastModified", "updated", "mtime", "created"))
    found = next(time for time in times if time is not None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)
