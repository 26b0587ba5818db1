"""What the Hub refuses, and what it does not answer, explained to those who publish."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx2  # huggingface_hub lets its transport errors through as they are
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from factory.hub import HUB_ERRORS, Patience, call_patiently, describe_fault, may_pass
from factory.spec import JobError, SpecError

ResultT = TypeVar("ResultT")


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
    try:
        return call_patiently(call, doing, patience)
    except HUB_ERRORS as error:
        raise _explained(error, doing, patience.max_tries) from None


@contextmanager
def upload_errors(doing: str) -> Iterator[None]:
    """Within it, what the client wraps or says in types of its own becomes what `ask_hub` knows.

    Raises:
        ConnectionError: if content did not arrive, or nobody says why not; its address, which the
            Hub gives anew each time, may have expired.
        JobError: if the Hub says that it does not take what was sent, or this machine fails.
    """
    try:
        yield
    except RuntimeError as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise ConnectionError(f"{error} {describe_fault(cause)}") from None
        if isinstance(cause, httpx2.TransportError):
            raise ConnectionError(f"{error} {type(cause).__name__}: {cause}") from None
        if cause is None:
            # The client's own transport (hf_xet) gives no other reason for a fault of the network.
            raise ConnectionError(str(error)) from None
        raise JobError(f"{doing}: {error}; nothing was committed") from None
    except (ValueError, PermissionError) as error:
        raise JobError(f"{doing}: {error}; nothing was committed") from None
    except HUB_ERRORS:
        raise
    except OSError as error:
        raise JobError(
            f"{doing}: {type(error).__name__}: {error}; nothing was committed, run the same again"
        ) from None


def _explained(error: Exception, doing: str, max_tries: int) -> SpecError | JobError:
    if may_pass(error):
        return JobError(
            f"{doing}: failed {max_tries} times, at last with {describe_fault(error)}; run the "
            "same again, what is stored is not sent again"
        )
    match error:
        case HfHubHTTPError():
            return _refused(error, doing)
        case OfflineModeIsEnabled():
            return SpecError(f"{doing}: HF_HUB_OFFLINE is set; unset it to publish")
    return SpecError(
        f"{doing}: the Hub's address starts with neither https:// nor http://; correct "
        "HF_ENDPOINT or unset it"
    )


def _refused(error: HfHubHTTPError, doing: str) -> SpecError | JobError:
    told = describe_fault(error)
    # To those who may not see it the Hub says 401 of a repository, there or not.
    is_hidden = isinstance(error, RepositoryNotFoundError)
    match 404 if is_hidden else error.response.status_code:
        case 401:
            return SpecError(
                f"{doing}: the Hub does not accept the token, {told}; log in with "
                "`hf auth login`, or set HF_TOKEN to one of https://huggingface.co/settings/tokens"
            )
        case 403:
            return SpecError(
                f"{doing}: not allowed, {told}; give a repo_id in a namespace that you may "
                "write to, and a token with write permission there"
            )
        case 404:
            return SpecError(
                f"{doing}: not found, {told}; check the name, and that your token may see it"
            )
    return JobError(f"{doing}: refused, {told}; nothing was committed")
