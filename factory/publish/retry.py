"""Calls of the Hub: made again where a fault may pass, explained where it does not."""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2  # huggingface_hub lets its transport errors through as they are
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import parse_ratelimit_headers

from factory.progress import duration
from factory.spec import JobError, SpecError

_LOG = logging.getLogger(__name__)
_PASSING_STATUSES = {408, 409, 412, 429}
"""Statuses below 500 of faults that may pass; 412 says that a branch has moved on."""

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
    """A number in [0, 1), so that two publishers do not try again at the same moment."""

    def seconds(self, tries: int, asked: float) -> float:
        """How long to wait after so many tries.

        Args:
            tries: calls that have failed, at least 1.
            asked: seconds that the Hub asks for; 0: it does not.
        """
        wait = min(self.first_seconds * 2.0 ** (tries - 1), self.longest_seconds)
        return asked + wait * (0.5 + 0.5 * self.draw())


def ask_hub(call: Callable[[], ResultT], doing: str, patience: Patience) -> ResultT:
    """What `call` returns; after a fault that may pass it is called again.

    Args:
        call: may be called again whatever became of the last call.
        doing: what is attempted, for messages.
        patience: how often and when.

    Raises:
        SpecError: if the Hub cannot be asked, does not know who asks, or refuses them.
        JobError: if it fails otherwise, or too often.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return call()
        except (HfHubHTTPError, httpx2.TransportError, ConnectionError, TimeoutError) as error:
            reason, asked = _passing(error, doing)
        if tries >= patience.max_tries:
            raise JobError(
                f"{doing}: failed {tries} times, at last with {reason}; run the same again, what "
                "is stored is not sent again"
            )
        wait = patience.seconds(tries, asked)
        _LOG.warning("%s: %s; trying again in %s", doing, reason, duration(wait))
        patience.sleep(wait)


@contextmanager
def upload_errors(doing: str) -> Iterator[None]:
    """Within it, what the client wraps or says in types of its own becomes what `ask_hub` knows.

    Raises:
        ConnectionError: if content did not arrive; its address, which the Hub gives anew each
            time, may have expired.
        JobError: if the Hub says that it does not take what was sent.
    """
    try:
        yield
    except RuntimeError as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise ConnectionError(f"{error} {_told(cause)}") from None
        if isinstance(cause, httpx2.TransportError):
            raise ConnectionError(f"{error} {type(cause).__name__}: {cause}") from None
        raise JobError(f"{doing}: {error}; nothing was committed") from None
    except (ValueError, PermissionError) as error:
        raise JobError(f"{doing}: {error}; nothing was committed") from None


def _passing(error: Exception, doing: str) -> tuple[str, float]:
    """What went wrong, and the seconds that the Hub asks to wait, if it may pass.

    Raises:
        SpecError, JobError: if not.
    """
    match error:
        case HfHubHTTPError():
            status = error.response.status_code
            if status in _PASSING_STATUSES or status >= 500:
                return _told(error), _asked_seconds(error.response)
            raise _refused(error, doing) from None
        case OfflineModeIsEnabled():
            raise SpecError(f"{doing}: HF_HUB_OFFLINE is set; unset it to publish") from None
        case httpx2.UnsupportedProtocol():
            raise SpecError(
                f"{doing}: the Hub's address starts with neither https:// nor http://; correct "
                "HF_ENDPOINT or unset it"
            ) from None
    return f"{type(error).__name__}: {error}", 0.0


def _told(error: HfHubHTTPError) -> str:
    """Status and the Hub's own words in one line."""
    words = " ".join((error.server_message or error.response.reason_phrase).split())
    return f"status {error.response.status_code} ({words})"


def _asked_seconds(response: httpx2.Response) -> float:
    """How long the Hub asks to wait; 0 where it does not."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _refused(error: HfHubHTTPError, doing: str) -> SpecError | JobError:
    # To those who may not see it the Hub says 401 of a repository, there or not.
    is_hidden = isinstance(error, RepositoryNotFoundError)
    match 404 if is_hidden else error.response.status_code:
        case 401:
            return SpecError(
                f"{doing}: the Hub does not accept the token, {_told(error)}; log in with "
                "`hf auth login`, or set HF_TOKEN to one of https://huggingface.co/settings/tokens"
            )
        case 403:
            return SpecError(
                f"{doing}: not allowed, {_told(error)}; give a repo_id in a namespace that you may "
                "write to, and a token with write permission there"
            )
        case 404:
            return SpecError(
                f"{doing}: not found, {_told(error)}; check the name, and that your token may "
                "see it"
            )
    return JobError(f"{doing}: refused, {_told(error)}; nothing was committed")
