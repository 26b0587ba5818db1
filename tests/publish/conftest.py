import logging
import traceback
from collections.abc import Iterable
from contextlib import contextmanager

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from factory.hub import Patience
from tests.publish.hub import Hub
from tests.publish.loopback import running
from tests.publish.repos import Account

WRITE, READ, OTHER = (f"hf_{word}{'x' * 30}" for word in ("write", "read", "other"))
"""Tokens: of alice, who may write to alice/ and lab/; hers that may only read; of bob in lab."""


@pytest.fixture
def hub():
    hub = Hub()
    hub.accounts[WRITE] = Account("alice", "write", ("lab",))
    hub.accounts[READ] = Account("alice", "read", ("lab",))
    hub.accounts[OTHER] = Account("bob", "write", ("lab",))
    with running(hub):
        yield hub


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The suite is offline; loopback is not."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def api(hub, monkeypatch):
    """A client that finds a token where users put it."""
    monkeypatch.setenv("HF_TOKEN", WRITE)
    return HfApi(endpoint=hub.url)


@pytest.fixture
def waits():
    """Seconds waited between tries, which nobody waits for."""
    return []


@pytest.fixture
def patience(waits):
    return Patience(max_tries=5, first_seconds=1.0, sleep=waits.append, draw=lambda: 0.0)


@pytest.fixture(autouse=True)
def tokens_stay_secret(caplog, capfd):
    """After every test: no token in any log record, of whatever level, nor on stdout or stderr.

    What it has read, it returns to a test that takes it.
    """
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "huggingface_hub"):
        library = logging.getLogger("huggingface_hub")
        library.addHandler(caplog.handler)
        yield
        library.removeHandler(caplog.handler)
    shown = capfd.readouterr()
    # Not caplog.text: by now pytest has emptied it for the records of the teardown.
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    assert_no_token(text_of(records) + shown.out + shown.err)


@contextmanager
def refused(kind: type[Exception], *words: str):
    """Expect an error that says `words` and, with all that a traceback shows, no token."""
    with pytest.raises(kind) as caught:
        yield caught
    for word in words:
        assert word in str(caught.value)
    assert_no_token("".join(traceback.format_exception(caught.value)) + repr(caught.value))


def text_of(records: Iterable[logging.LogRecord]) -> str:
    """All that a log file would say of them, tracebacks included."""
    return "\n".join(map(logging.Formatter().format, records))


def assert_no_token(text: str) -> None:
    assert not [token for token in (WRITE, READ, OTHER) if token in text]
