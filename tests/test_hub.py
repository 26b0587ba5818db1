"""Models come from the Hub once a machine, and faults that pass do not end a run."""

import os
import subprocess
import sys
import threading

import huggingface_hub.constants
import pytest

from factory.hub import Patience, call_patiently, fetch_model, model_commit
from factory.models import open_model
from factory.spec import EdmGenerator, SpecError
from tests.publish.hub import Hub
from tests.publish.loopback import running

NAME = "lab/model"
FILES = {
    "model_index.json": b"{}",
    "unet/config.json": b'{"in_channels": 3}',
    "unet/diffusion_pytorch_model.safetensors": bytes(200_000),
}
FETCH = """
import sys
from factory.hub import fetch_model
print("asks", flush=True)
print(fetch_model(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    with running(hub):
        hub.add_repo(NAME)
        hub.commit(NAME, FILES)
        # The client read its environment when it was imported.
        settings = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        yield hub


@pytest.fixture
def waits():
    """Seconds waited between tries, which nobody waits for."""
    return []


@pytest.fixture
def patience(waits):
    return Patience(max_tries=4, first_seconds=1.0, sleep=waits.append, draw=lambda: 0.0)


def assert_whole(folder):
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES


def fetching(hub, home):
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    words = [sys.executable, "-c", FETCH, NAME, hub.repos[NAME].branches["main"]]
    return subprocess.Popen(
        words,
        env=environment | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_start_at_once_fetch_each_file_once(hub, tmp_path):
    both_ask = threading.Event()
    hub.fault("GET /api/models/.*/tree", meanwhile=both_ask.wait)
    processes = [fetching(hub, tmp_path / "home") for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["asks\n"] * 2
    both_ask.set()
    folders = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(folders) == 1
    # One listing in all; of each file its head and its content.
    assert hub.num_requests("GET /api/models/.*/tree") == 1
    num_files = len(FILES) + 1  # .gitattributes
    assert hub.num_requests("HEAD .*/resolve/") == num_files
    assert hub.num_requests("GET .*(/resolve/|/objects/)") == num_files


def test_a_fetched_model_is_asked_for_no_more(hub):
    commit = model_commit(NAME, None)
    assert_whole(fetch_model(NAME, commit))
    before = len(hub.requests)
    assert_whole(fetch_model(NAME, commit))
    assert len(hub.requests) == before


# What the client tries again by itself, listings and heads of files, is left to it.
PASSING = [
    ("GET /api/models/lab/model$", {"status": 429, "headers": {"Retry-After": "7"}}, [7.5, 8.0]),
    ("GET /api/models/lab/model$", {"drops_reply": True}, [0.5, 1.0]),
    ("GET .*config.json", {"status": 500}, [0.5, 1.0]),
    ("GET .*/objects/", {"status": 502}, [0.5, 1.0]),
]


@pytest.mark.parametrize(("pattern", "fault", "waited"), PASSING)
def test_a_fault_that_passes_costs_a_wait(hub, patience, waits, pattern, fault, waited):
    hub.fault(pattern, times=2, **fault)
    assert_whole(fetch_model(NAME, model_commit(NAME, None, patience), patience=patience))
    assert waits == waited


def test_a_connection_cut_amid_a_file_is_taken_up_again(hub, patience, waits):
    hub.fault("GET .*/objects/", drops_reply=True)
    assert_whole(fetch_model(NAME, model_commit(NAME, None), patience=patience))
    assert waits == []  # the client's own


def test_a_hub_that_stays_away_ends_the_patience(hub, patience, waits):
    commit = model_commit(NAME, None)
    hub.fault("GET .*config.json", times=99, status=503)
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="503"):
        fetch_model(NAME, commit, patience=patience)
    assert waits == [0.5, 1.0, 2.0]


def test_what_does_not_pass_is_not_tried_again(patience, waits):
    def call():
        raise ValueError("wrong name")

    with pytest.raises(ValueError, match="wrong name"):
        call_patiently(call, "looking", patience)
    assert waits == []


def test_a_model_that_may_be_seen_but_not_read_is_refused_before_work_starts(hub):
    gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
    hub.fault("resolve", times=99, status=403, headers=gated)
    with pytest.raises(SpecError, match=r"generator\.model: lab/model .*give a folder"):
        open_model(EdmGenerator(model=NAME))
