"""The stage against a double of the Hub: first push, again, growth, and nothing without a token."""

import json
import shutil

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from factory.publish.prepare import prepare
from factory.publish.run import dry_run
from factory.spec import PublishSpec, SpecError
from factory.spec.verify import VerifyHubSpec
from factory.verify.hub import verify_hub
from tests.datasets import make_dataset
from tests.publish.conftest import WRITE, assert_no_token
from tests.publish.roots import FIELDS, published, save_real

REPO = "alice/images"


@pytest.fixture
def client(hub, monkeypatch):
    """The library's own client, as a job uses it, asks the double."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", WRITE)


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("run")
    make_dataset(folder, tiny_model)
    return folder


@pytest.fixture
def root(clean_root, tmp_path):
    return shutil.copytree(clean_root, tmp_path / "root")


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_without_a_repository_all_but_the_shards_is_written_and_nobody_asked(
    root, tmp_path, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = files_of(root)
    (tmp_path / "folder").mkdir()
    report = published(root, tmp_path / "folder", licence=None)
    assert sorted(files_of(tmp_path / "folder")) == [
        "README.md",
        "croissant.json",
        "layout.txt",
        "manifest.json",
    ]
    assert list(report.refused) == ["licence"]
    assert (report.num_files, report.pushed) == (6, None)
    assert (tmp_path / "folder/layout.txt").read_text().count("data/synthetic/train-") == 3
    assert files_of(root) == before


def test_dry_run_says_the_same_and_writes_nothing(root, tmp_path):
    spec = PublishSpec.model_validate(
        {"root": str(root), "export": str(tmp_path / "e"), "repo_id": REPO, **FIELDS}
    )
    before = files_of(tmp_path)
    said = dry_run(prepare(spec, str(tmp_path / "folder")))
    assert files_of(tmp_path) == before
    done = published(root, tmp_path / "folder", export=str(tmp_path / "e"))
    assert said.merkle_root == done.merkle_root
    assert (said.configs, said.num_files) == (done.configs, done.num_files)
    assert (said.folder, said.exported, said.pushed) == (None, None, None)
    assert done.exported is not None


def test_push_brings_what_the_folder_and_the_root_hold(hub, client, root, tmp_path):
    report = published(root, tmp_path / "folder", repo_id=REPO)
    local = files_of(tmp_path / "folder")
    del local["layout.txt"]
    shards = {f"data/synthetic/{name}": data for name, data in files_of(root / "data").items()}
    assert hub.files(REPO) == local | shards
    assert report.pushed.num_uploaded == report.num_files == 6
    assert hub.repos[REPO].private
    for data in hub.files(REPO).values():
        assert WRITE.encode() not in data


def test_push_again_makes_no_commit(hub, client, root, tmp_path):
    first = published(root, tmp_path / "folder", repo_id=REPO)
    again = published(root, tmp_path / "folder", repo_id=REPO)
    assert hub.num_requests("POST .*/commit/") == 1
    assert again.pushed.commit == first.pushed.commit
    assert again.pushed.num_uploaded == 0


def test_growth_sends_only_what_is_new_and_replaces_the_short_last_shard(
    hub, client, root, tmp_path, tiny_model
):
    published(root, tmp_path / "folder", repo_id=REPO)
    before = hub.files(REPO)
    sent = hub.num_requests("PUT /objects/")
    make_dataset(root, tiny_model, num_images=60)
    report = published(root, tmp_path / "folder", repo_id=REPO)
    after = hub.files(REPO)
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    assert [path.split("-")[1] for path in gone] == ["00002"]
    assert sorted(path.split("-")[1] for path in new) == ["00002", "00003"]
    assert hub.num_requests("PUT /objects/") - sent == 2
    assert hub.num_requests("POST .*/commit/") == 2
    assert (report.pushed.num_deleted, report.pushed.num_unchanged) == (1, 2)
    assert json.loads(after["manifest.json"])["configs"][0]["num_images"] == 60
    assert before["README.md"] != after["README.md"]


def test_growth_goes_to_the_pull_request_that_is_open(hub, client, root, tmp_path, tiny_model):
    first = published(root, tmp_path / "folder", repo_id=REPO, create_pr=True)
    make_dataset(root, tiny_model, num_images=60)
    second = published(root, tmp_path / "folder", repo_id=REPO, create_pr=True)
    assert first.pushed.pull_request == second.pushed.pull_request
    (pull,) = hub.repos[REPO].pulls
    assert pull.status == "open"
    proposed = hub.files(REPO, "refs/pr/1")
    assert json.loads(proposed["manifest.json"])["configs"][0]["num_images"] == 60


def test_configs_of_one_repository_come_in_one_commit(hub, client, root, tmp_path):
    source = {"path": str(save_real(tmp_path / "real.parquet"))}
    more = {
        "real": {"kind": "real", "source": source, "licence": "mit"},
        "fuller": {
            "kind": "mix",
            "real": "real",
            "mix": {"kind": "add", "images_per_class": 2},
        },
    }
    report = published(root, tmp_path / "folder", repo_id=REPO, more=more)
    assert hub.num_requests("POST .*/commit/") == 1
    assert [(one.name, one.num_images, one.num_synthetic) for one in report.configs] == [
        ("synthetic", 40, 40),
        ("real", 12, 0),
        ("fuller", 18, 6),
    ]
    folders = {path.split("/")[1] for path in hub.files(REPO) if path.startswith("data/")}
    assert folders == {"synthetic", "real", "fuller"}


@pytest.mark.parametrize("config", ["synthetic", "drawn"])
def test_config_that_is_dropped_or_renamed_leaves_nothing_behind(
    hub, client, root, tmp_path, config
):
    source = {"path": str(save_real(tmp_path / "real.parquet"))}
    more = {"real": {"kind": "real", "source": source, "licence": "mit"}}
    published(root, tmp_path / "folder", repo_id=REPO, more=more)
    hub.commit(REPO, {"notes.txt": b"mine", "data/notes.txt": b"mine"})
    published(root, tmp_path / "folder", repo_id=REPO, config=config)
    folders = {path.split("/")[1] for path in hub.files(REPO) if path.count("/") == 2}
    assert folders == {config}
    assert {"notes.txt", "data/notes.txt"} <= hub.files(REPO).keys()
    hub.commit(REPO, {"data/notes.txt": None})
    assert verify_hub(REPO, VerifyHubSpec(), HfApi()).ok


def test_repository_of_another_dataset_is_refused_and_left_alone_until_accepted(
    hub, client, root, tmp_path, tiny_model
):
    published(root, tmp_path / "folder", repo_id=REPO)
    before = hub.files(REPO)
    make_dataset(tmp_path / "other", tiny_model, num_images=20, seed=1)
    asked = (tmp_path / "other", tmp_path / "others")
    with pytest.raises(SpecError, match=r"(?s)40 images of dataset .*accept=\[another_dataset\]"):
        published(*asked, repo_id=REPO, config="more")
    assert hub.files(REPO) == before
    assert not (tmp_path / "others").exists()
    accept = ["memorisation_missing", "another_dataset"]
    report = published(*asked, repo_id=REPO, config="more", accept=accept)
    assert set(report.accepted) == set(accept)
    assert {path.split("/")[1] for path in hub.files(REPO) if "/" in path} == {"more"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data/synthetic/a.parquet", r"1 files of no published dataset \(first: data/synthetic/a"),
        ("manifest.json", "a manifest.json that jobs/publish.py has not written"),
    ],
)
def test_repository_with_files_of_other_tools_in_the_way_is_refused(
    hub, client, root, tmp_path, path, said
):
    hub.add_repo(REPO, private=True)
    hub.commit(REPO, {path: b"mine", "README.md": b"mine"})
    with pytest.raises(SpecError, match=f"another_dataset: the repository holds {said}"):
        published(root, tmp_path / "folder", repo_id=REPO)
    assert hub.files(REPO) == {path: b"mine", "README.md": b"mine"}
    hub.commit(REPO, {path: None})
    assert published(root, tmp_path / "folder", repo_id=REPO).pushed is not None


def test_missing_token_is_refused_with_all_else_that_stands_against(
    hub, client, root, tmp_path, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SpecError, match=r"licence: .*\n.*token: no token of the Hub") as caught:
        published(root, tmp_path / "folder", repo_id=REPO, licence=None)
    assert not (tmp_path / "folder").exists()
    assert not hub.requests
    assert_no_token(str(caught.value))


def test_folder_of_a_dataset_is_no_place_for_results(root):
    with pytest.raises(SpecError, match=r"holds a dataset.*root="):
        prepare(PublishSpec(root=str(root)), str(root))


def test_folder_of_other_results_is_no_place_for_a_card(root, tmp_path):
    (tmp_path / "asked.json").write_text("{}")
    with pytest.raises(SpecError, match=r"results of a job.*another --root"):
        prepare(PublishSpec(root=str(root)), str(tmp_path))


def test_root_without_a_shard_is_refused(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=0)
    with pytest.raises(SpecError, match="holds no finished shard"):
        published(tmp_path / "root", tmp_path / "folder")


def test_root_of_which_no_shard_is_whole_is_refused(root, tmp_path):
    for file in (root / "data").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(SpecError, match="recheck=true"):
        published(root, tmp_path / "folder", accept=["verification", "counts"])


def test_export_to_a_url_is_refused(root):
    with pytest.raises(SpecError, match="local folder"):
        prepare(PublishSpec(root=str(root), export="s3://bucket/images"), "folder")
