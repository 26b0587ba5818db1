"""Calls of the Hugging Face Hub that last through passing faults; models, fetched once a node."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2  # huggingface_hub lets its transport errors through as they are
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock, parse_ratelimit_headers

from factory.progress import duration

_LOG = logging.getLogger(__name__)
_PASSING_STATUSES = {408, 409, 412, 429}
"""Statuses below 500 of faults that may pass; 412 says that a branch has moved on."""

HUB_ERRORS = (HfHubHTTPError, httpx2.TransportError, ConnectionError, TimeoutError)
"""What a call raises that the Hub refuses, or that does not come through to it."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Patience:
    """How often a call is made, and how long to wait between two."""

    max_tries: int = 8
    first_seconds: float = 2.0
    """The first wait; each next one is twice as long."""
    longest_seconds: float = 60.0
    """Bound of a wait of our own; one that the Hub asks for is not bounded."""
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = secrets.SystemRandom().random
    """A number in [0, 1), so that two clients do not try again at the same moment."""

    def seconds(self, tries: int, asked: float) -> float:
        """How long to wait after so many tries.

        Args:
            tries: calls that have failed, at least 1.
            asked: seconds that the Hub asks for; 0: it does not.
        """
        wait = min(self.first_seconds * 2.0 ** (tries - 1), self.longest_seconds)
        return asked + wait * (0.5 + 0.5 * self.draw())


SHORT = Patience(max_tries=4)
"""For what somebody waits for before work starts: about 10 seconds."""


def call_patiently(call: Callable[[], ResultT], doing: str, patience: Patience) -> ResultT:
    """What `call` returns; after a fault that may pass it is called again.

    Args:
        call: may be called again whatever became of the last call.
        doing: what is attempted, for the log.
        patience: how often and when.

    Raises:
        Exception: what the last call raised, one of `HUB_ERRORS` or anything else.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return call()
        except HUB_ERRORS as error:
            if tries >= patience.max_tries or not may_pass(error):
                raise
            reason, asked = describe_fault(error), _asked_seconds(error)
        wait = patience.seconds(tries, asked)
        _LOG.warning("%s: %s; trying again in %s", doing, reason, duration(wait))
        patience.sleep(wait)


def may_pass(error: Exception) -> bool:
    """Whether one of `HUB_ERRORS` is worth another try."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status in _PASSING_STATUSES or status >= 500
    return not isinstance(error, (OfflineModeIsEnabled, httpx2.UnsupportedProtocol))


def describe_fault(error: Exception) -> str:
    """One of `HUB_ERRORS` in one line: status and the Hub's own words, or what broke."""
    if not isinstance(error, HfHubHTTPError):
        return f"{type(error).__name__}: {error}"
    words = " ".join((error.server_message or error.response.reason_phrase).split())
    return f"status {error.response.status_code} ({words})"


def model_commit(name: str, revision: str | None, patience: Patience = SHORT) -> str:
    """The commit that a revision of a model is now.

    Raises:
        Exception: one of `HUB_ERRORS`, or what the client says of a name that cannot be.
    """
    commit = call_patiently(
        lambda: HfApi().model_info(name, revision=revision).sha, f"{name}: looking", patience
    )
    assert commit is not None
    return commit


def fetch_model(
    name: str, commit: str, patterns: list[str] | None = None, patience: Patience | None = None
) -> Path:
    """The folder of a model's files at a commit; those that this machine lacks are downloaded.

    Of the processes of one machine one downloads, and the others wait for it: eight actors that
    start at once cost one download, and no more requests than one.

    Args:
        name: org/name.
        commit: full hash.
        patterns: of the files that are wanted; None: all.
        patience: with a Hub that is busy or away.

    Raises:
        Exception: one of `HUB_ERRORS`, if it stays away or refuses.
        OSError: if the files cannot be written, or do not arrive whole.
    """

    def fetch() -> str:
        try:
            return snapshot_download(name, revision=commit, allow_patterns=patterns)
        except LocalEntryNotFoundError as error:
            # So the client says that it could not ask; why is the cause.
            raise error.__cause__ or error from None

    # The client's own locks are one a file: behind them every process asks for every file.
    repository = repo_folder_name(repo_id=name, repo_type="model")
    folder = Path(constants.HF_HUB_CACHE, ".locks", repository)
    folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{commit}.lock"):
        return Path(call_patiently(fetch, f"{name}: downloading", patience or Patience()))


def _asked_seconds(error: Exception) -> float:
    """How long the Hub asks to wait; 0 where it does not."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    limit = parse_ratelimit_headers(error.response.headers)
    if error.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    asked = error.response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0
