"""A published dataset that is as its manifest says passes; whatever was changed is named."""

import json
import re
import runpy
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from factory.publish.prepare import prepare
from factory.publish.run import run
from factory.shards.manifest import Manifest, merkle_root
from factory.spec import JobError, PublishSpec, SpecError
from factory.spec.verify import VerifyHubSpec
from factory.verify.hub import verify_hub
from tests.datasets import make_dataset
from tests.publish.hub import Hub
from tests.publish.loopback import running
from tests.publish.repos import Account

REPO = "alice/images"
JOB = Path(__file__).parents[2] / "jobs" / "verify.py"


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def layout(request, tmp_path_factory, tiny_model):
    """What is pushed of a root of three shards: path -> content."""
    folder = tmp_path_factory.mktemp("published")
    make_dataset(folder / "root", tiny_model, output={"format": request.param})
    spec = {"root": str(folder / "root"), "evaluate": None}
    run(prepare(PublishSpec.model_validate(spec), str(folder / "texts")))
    files = {
        path.name: path.read_bytes()
        for path in (folder / "texts").iterdir()
        if path.is_file() and path.name != "layout.txt"
    }
    shards = {
        f"data/synthetic/{path.name}": path.read_bytes()
        for path in (folder / "root/data").iterdir()
    }
    return files | shards


@pytest.fixture
def hub(layout, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub = Hub()
    hub.accounts["hf_alice"] = Account("alice", "write")
    with running(hub):
        hub.add_repo(REPO)
        hub.commit(REPO, layout)
        yield hub


@pytest.fixture
def verify(hub):
    def check(repo_id=REPO, **fields):
        return verify_hub(repo_id, VerifyHubSpec(**fields), HfApi(endpoint=hub.url, token=False))

    return check


def shards_of(hub):
    return sorted(path for path in hub.files(REPO) if path.startswith("data/"))


def change_manifest(hub, change):
    tree = json.loads(hub.files(REPO)["manifest.json"])
    change(tree)
    hub.commit(REPO, {"manifest.json": json.dumps(tree).encode()})


def found(report):
    return {finding.file: finding.what for finding in report.findings}


def test_dataset_as_it_was_published_is_ok(hub, verify):
    manifest = Manifest.model_validate_json(hub.files(REPO)["manifest.json"])
    for download in (False, True):
        report = verify(download=download)
        assert (report.ok, report.exit_code, report.is_downloaded) == (True, 0, download)
        assert (report.num_files, report.num_images) == (3, 40)
        assert report.merkle_root == manifest.merkle_root == merkle_root(manifest.files)


def test_shards_are_fetched_only_when_asked(hub, verify):
    verify()
    assert hub.num_requests("GET /objects/") == 0
    verify(download=True)
    assert hub.num_requests("GET /objects/") == 3


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_changed_byte_names_the_file(hub, verify, download, place):
    path = shards_of(hub)[1]
    data = bytearray(hub.files(REPO)[path])
    data[place] ^= 1
    hub.commit(REPO, {path: bytes(data)})
    report = verify(download=download)
    assert report.exit_code == 3
    assert set(found(report)) == {path, "manifest.json"}
    assert "sha256" in found(report)[path]
    assert "Merkle root" in found(report)["manifest.json"]


def test_cut_missing_and_added_files_are_named(hub, verify):
    cut, gone, _ = shards_of(hub)
    added = "data/synthetic/train-00009-01234567.parquet"
    data = hub.files(REPO)[cut][:-1]
    hub.commit(REPO, {cut: data, gone: None, added: b"more"})
    what = found(verify())
    assert f"has {len(data)} bytes" in what[cut]
    assert what[gone] == "is not there"
    assert "does not name it" in what[added]


def test_files_that_changed_places_are_named(hub, verify):
    first, second, _ = shards_of(hub)
    files = hub.files(REPO)
    hub.commit(REPO, {first: files[second], second: files[first]})
    assert {first, second, "manifest.json"} == set(found(verify()))


def test_bytes_that_are_not_what_the_hub_states_are_found_by_downloading(hub, verify):
    path = shards_of(hub)[0]
    stated = hub.repos[REPO].find("main").files[path].sha256
    hub.objects[stated] = hub.files(REPO)[path][:-1] + b"x"
    assert verify().ok
    # The client itself compares sizes alone.
    assert path in found(verify(download=True))


@pytest.mark.parametrize("stored", [b"", b"x", b"x" * 100_000], ids=["none", "less", "more"])
def test_content_of_another_size_than_the_hub_states_is_a_finding(hub, verify, stored):
    path = shards_of(hub)[0]
    hub.objects[hub.repos[REPO].find("main").files[path].sha256] = stored
    report = verify(download=True)
    assert report.exit_code == 3
    assert set(found(report)) == {path, "manifest.json"}
    assert "file should be of size" in found(report)[path]


def test_manifest_that_does_not_arrive_whole_is_no_mismatch(hub, verify, monkeypatch):
    monkeypatch.setattr("tests.publish.hub.LFS_SUFFIXES", (".json",))
    hub.commit(REPO, {"manifest.json": hub.files(REPO)["manifest.json"] + b"\n"})
    hub.objects[hub.repos[REPO].find("main").files["manifest.json"].sha256] = b"{"
    with pytest.raises(JobError, match="cannot be read"):
        verify()


def test_file_outside_lfs_is_hashed_in_any_case(hub, layout, verify, monkeypatch):
    monkeypatch.setattr("tests.publish.hub.LFS_SUFFIXES", ())
    path = shards_of(hub)[0]
    hub.commit(REPO, {path: layout[path]})
    assert hub.repos[REPO].find("main").files[path].is_lfs is False
    assert verify().ok
    hub.commit(REPO, {path: layout[path][:-1] + b"x"})
    assert path in found(verify())


def test_manifest_that_was_changed_together_with_a_file_contradicts_the_card(hub, verify):
    path = shards_of(hub)[0]

    def leave_out(tree):
        config = tree["configs"][0]
        (gone,) = (file for file in config["files"] if file["path"] == path)
        config["files"].remove(gone)
        config["num_images"] -= gone["num_samples"]
        changed = Manifest.model_validate(tree)
        tree["merkle_root"] = merkle_root(changed.files)

    change_manifest(hub, leave_out)
    hub.commit(REPO, {path: None})
    report = verify()
    assert "Merkle root" in found(report)["README.md"]
    assert found(verify(merkle_root="0" * 64))["manifest.json"]


def test_counts_that_contradict_each_other_or_the_files_are_found(hub, verify):
    def swap(tree):
        counts = tree["configs"][0]["class_counts"]
        counts["cat"], counts["dog"] = counts["dog"], counts["cat"]

    change_manifest(hub, swap)
    assert verify().ok
    assert "its files hold" in found(verify(download=True))["manifest.json"]
    change_manifest(hub, lambda tree: tree["configs"][0].update(num_real=1))
    assert "synthetic and real images" in found(verify())["manifest.json"]


def test_expected_root_is_compared(hub, verify):
    root = verify().merkle_root
    assert verify(merkle_root=root).ok
    assert "expected" in found(verify(merkle_root="0" * 64))["manifest.json"]


def test_revision_is_what_is_checked(hub, verify):
    good = hub.repos[REPO].find("main").oid
    hub.commit(REPO, {shards_of(hub)[0]: None})
    assert not verify().ok
    report = verify(revision=good)
    assert (report.ok, report.commit) == (True, good)


@pytest.mark.parametrize(
    ("repo_id", "fields", "said"),
    [
        ("alice/none", {}, "no such dataset"),
        ("no name at all", {}, "no such dataset"),
        (REPO, {"revision": "none"}, "no revision none"),
    ],
)
def test_what_is_not_there_is_refused(verify, repo_id, fields, said):
    with pytest.raises(SpecError, match=said):
        verify(repo_id, **fields)


def test_repository_of_another_kind_is_refused(hub, verify):
    hub.commit(REPO, {"manifest.json": b"{}"})
    with pytest.raises(SpecError, match="is no manifest"):
        verify()
    hub.commit(REPO, {"manifest.json": None})
    with pytest.raises(SpecError, match=r"holds no manifest\.json"):
        verify()


def test_hub_that_fails_is_no_mismatch(hub, verify):
    hub.fault("GET .*/tree/", status=403)
    with pytest.raises(JobError, match="cannot be read"):
        verify()


def test_job_takes_the_name_of_a_dataset_in_place_of_a_spec(hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def job(*words):
        monkeypatch.setattr(sys, "argv", ["verify.py", f"hub:{REPO}", *words])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(JOB), run_name="__main__")
        out, err = capsys.readouterr()
        return stop.value.code, json.loads(out) if out else err

    code, report = job("download=true")
    assert (code, report["ok"], report["is_downloaded"]) == (0, True, True)
    hub.commit(REPO, {shards_of(hub)[0]: None})
    assert job()[0] == 3
    for words in (["replay=0.1"], ["--root", "out"], ["--dry-run"]):
        code, err = job(*words)
        assert code == 2
        assert re.search("replay|--root", err)
