import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

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
