import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from factory import store as store_module
from factory.spec import SpecError
from factory.store import INCOMING, Store


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(str(tmp_path / "root"))
    if request.param == "memory":
        return Store(f"memory://{tmp_path.name}")
    return Store(f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


def test_put_then_get_returns_the_bytes_and_replaces(store):
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert store.get("a/b") == b"two"
    assert store.sizes() == {"a/b": 3}


def test_create_keeps_the_first_content(store):
    assert store.create("x", b"first")
    assert not store.create("x", b"second")
    assert store.get("x") == b"first"
    assert store.sizes() == {"x": 5}


def test_get_many_leaves_out_what_is_missing(store):
    store.put("a", b"1")
    assert store.get_many(["a", "b"]) == {"a": b"1"}
    with pytest.raises(FileNotFoundError):
        store.get("b")


def test_sizes_of_a_missing_folder_is_empty_and_sees_new_files_at_once(store):
    assert store.sizes() == {}
    store.put("d/one", b"1")
    assert store.exists("d/one")
    store.put("d/two", b"22")
    assert store.sizes("d") == {"d/one": 1, "d/two": 2}


def test_times_say_when_a_file_was_put(store):
    assert store.times() == {}
    before = time.time()
    store.put("d/one", b"1")
    store.put("other", b"2")
    assert list(store.times("d")) == ["d/one"]
    # S3 counts whole seconds, and a file system's clock ticks.
    assert before - 1 <= store.times()["d/one"] <= time.time() + 1


def test_delete_ignores_what_is_gone(store):
    store.put("a", b"1")
    store.delete(["a", "never"])
    assert not store.exists("a")


def test_create_has_one_winner_among_many(store):
    if not store.is_shared:
        pytest.skip("memory:// is for one thread of one process")
    barrier = threading.Barrier(8)

    def race(number: int) -> bool:
        barrier.wait()
        return Store(store.url).create("prize", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert won.count(True) == 1
    assert store.get("prize") == str(won.index(True)).encode()


def test_check_writable_leaves_nothing_behind(tmp_path):
    Store(str(tmp_path / "deep" / "root")).check_writable()
    assert list(tmp_path.iterdir()) == []


def test_check_writable_refuses_a_root_that_cannot_be_written():
    with pytest.raises(SpecError, match=r"/proc/factory.*cannot be written.*--root"):
        Store("/proc/factory").check_writable()


def test_unknown_store_is_refused():
    with pytest.raises(SpecError, match=r"nosuch://x.*give a folder"):
        Store("nosuch://x/y")


def test_interrupted_put_leaves_no_file_under_a_final_name(tmp_path, monkeypatch):
    store = Store(str(tmp_path))

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.put("data/x", b"whole")
    assert all(name.startswith(INCOMING) for name in store.sizes())


@pytest.mark.parametrize("call", ["replace", "link"])
def test_an_unfinished_file_that_is_swept_is_written_again(tmp_path, monkeypatch, call):
    store = Store(str(tmp_path))
    finish = getattr(os, call)
    sweeps = [True, True]

    def finish_late(*paths):
        if sweeps:
            sweeps.pop()
            store.delete(store.sizes(INCOMING))
        return finish(*paths)

    monkeypatch.setattr(os, call, finish_late)
    assert (store.put if call == "replace" else store.create)("data/x", b"whole") is not False
    assert sweeps == []
    assert store.get("data/x") == b"whole"
    assert list(store.sizes()) == ["data/x"]


# S3 that goes wrong


@dataclass
class FaultyS3:
    """The suite's S3 behind a door that answers some requests itself."""

    method: str = ""
    """Of the requests that fail."""
    query: str = ""
    """What is in their query."""
    times: int = 0
    status: str = "503 Slow Down"
    code: str = "SlowDown"
    acts: bool = False
    """Whether what was asked is done all the same."""
    app: DomainDispatcherApplication = field(
        default_factory=lambda: DomainDispatcherApplication(create_backend_app)
    )

    def __call__(self, environ, start_response):
        asked = environ["REQUEST_METHOD"] == self.method and self.query in environ["QUERY_STRING"]
        if not asked or not self.times:
            return self.app(environ, start_response)
        self.times -= 1
        if self.acts:
            list(self.app(environ, lambda *_: None))
        start_response(self.status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{self.code}</Code><Message>on demand</Message></Error>".encode()]


@pytest.fixture
def faulty(s3_bucket, monkeypatch):
    faulty = FaultyS3()
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield faulty
    S3FileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_a_put_that_s3_refuses_twice_arrives(faulty, s3_bucket, tmp_path, code):
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    faulty.method, faulty.times, faulty.code = "PUT", 2, code
    store.put("a", b"whole")
    assert faulty.times == 0
    assert store.get("a") == b"whole"


def test_a_create_whose_answer_is_lost_keeps_what_was_created(faulty, s3_bucket, tmp_path):
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    faulty.method, faulty.times, faulty.acts = "PUT", 1, True
    # The second try finds the file of the first; whoever asks must compare, and all do.
    assert not store.create("a", b"mine")
    assert store.get("a") == b"mine"


def test_an_address_where_nothing_listens_is_refused(faulty, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SpecError, match=r"cannot be reached.*127\.0\.0\.1:9"):
        Store(f"{s3_bucket}/nowhere").check_reachable()


def test_an_s3_root_by_its_other_name_is_refused_as_well(faulty, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SpecError, match=r"cannot be reached.*127\.0\.0\.1:9"):
        Store("s3a://factory/nowhere").check_reachable()


@pytest.fixture
def google_that_answers(monkeypatch):
    """A server of Google's protocol that answers everything with one status."""
    gcsfs = pytest.importorskip("gcsfs")
    status = ["401 Unauthorized"]

    def answer(environ, start_response):
        start_response(status[0], [("Content-Type", "application/json")])
        return [b'{"error": {"message": "on demand"}}']

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    # gcsfs asks by gRPC what kind of bucket it is.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    yield
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_google_without_valid_credentials_is_refused(google_that_answers, scheme):
    store = Store(f"{scheme}://factory/root")
    for check in (store.check_reachable, store.check_writable):
        with pytest.raises(SpecError, match=rf"root {scheme}://factory/root"):
            check()


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_googles_own_error_of_credentials_is_refused(google_that_answers, monkeypatch, scheme):
    import gcsfs
    from google.auth.exceptions import RefreshError

    def refuse(*_, **__):
        raise RefreshError("the token has expired")

    monkeypatch.setattr(gcsfs.GCSFileSystem, "exists", refuse)
    with pytest.raises(SpecError, match="the token has expired"):
        Store(f"{scheme}://factory/root").check_reachable()


@pytest.fixture
def begin_upload(s3_bucket):
    """Begins an upload in parts that nobody ends."""
    s3 = boto3.client("s3")

    def begin(key):
        s3.create_multipart_upload(Bucket="factory", Key=key)

    yield begin
    for upload in s3.list_multipart_uploads(Bucket="factory").get("Uploads", []):
        s3.abort_multipart_upload(Bucket="factory", Key=upload["Key"], UploadId=upload["UploadId"])


def test_dead_uploads_below_the_root_are_aborted(s3_bucket, tmp_path, begin_upload):
    root = tmp_path.name
    for key in (f"{root}/data/a", f"{root}/data/b", f"{root}-2/data/c"):
        begin_upload(key)
    store = Store(f"{s3_bucket}/{root}")
    # The server dates every upload 2010-11-10: begun after this, they may be under way.
    assert store.abort_uploads(before=datetime(2010, 11, 10, tzinfo=UTC)) == []
    assert sorted(store.abort_uploads()) == ["data/a", "data/b"]
    assert store.abort_uploads() == []
    assert Store(f"{s3_bucket}/{root}-2").abort_uploads() == ["data/c"]


def test_a_role_that_may_not_list_uploads_ends_no_run(faulty, s3_bucket, tmp_path):
    faulty.method, faulty.query, faulty.times = "GET", "uploads", 1
    faulty.status, faulty.code = "403 Forbidden", "AccessDenied"
    assert Store(f"{s3_bucket}/{tmp_path.name}").abort_uploads() == []
    assert faulty.times == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [("501 Not Implemented", "NotImplemented"), ("400 Bad Request", "InvalidRequest")],
)
def test_a_store_that_cannot_list_uploads_ends_no_run(faulty, s3_bucket, tmp_path, status, code):
    faulty.method, faulty.query, faulty.times = "GET", "uploads", 100
    faulty.status, faulty.code = status, code
    assert Store(f"{s3_bucket}/{tmp_path.name}").abort_uploads() == []


def test_a_store_that_is_away_when_uploads_are_listed_ends_no_run(faulty, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(store_module, "_S3_TRIES", 1)
    assert Store(f"{s3_bucket}/away").abort_uploads() == []


def test_only_s3_keeps_dead_uploads(tmp_path):
    assert Store(str(tmp_path)).abort_uploads() == []
