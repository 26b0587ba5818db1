"""The double is a fair one: the real client and the readers of datasets find what they ask for."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image

from tests.publish.conftest import OTHER, READ, WRITE, assert_no_token

REPO = "alice/images"


def commit(api, operations, **options):
    return api.create_commit(REPO, operations, commit_message="m", repo_type="dataset", **options)


def add(path, data):
    return CommitOperationAdd(path, data)


@pytest.fixture
def repo(api):
    api.create_repo(REPO, repo_type="dataset", private=False)


def test_committed_files_are_listed_and_downloaded(hub, api, repo, tmp_path):
    data = bytes(range(256)) * 100
    made = commit(api, [add("data/a.parquet", data), add("README.md", b"# words\n")])
    listed = {
        entry.path: entry for entry in api.list_repo_tree(REPO, repo_type="dataset", recursive=True)
    }
    assert listed["data/a.parquet"].lfs.sha256 == hashlib.sha256(data).hexdigest()
    assert listed["README.md"].lfs is None
    assert "data" in listed
    for path, content in {"data/a.parquet": data, "README.md": b"# words\n"}.items():
        local = api.hf_hub_download(
            REPO, path, repo_type="dataset", revision=made.oid, cache_dir=tmp_path
        )
        assert Path(local).read_bytes() == content
    assert hub.num_requests("PUT /objects/") == 1


def test_token_goes_to_the_hub_and_not_to_the_other_origin(hub, api, repo, tmp_path):
    commit(api, [add("a.parquet", b"content")])
    api.hf_hub_download(REPO, "a.parquet", repo_type="dataset", cache_dir=tmp_path)
    stored = [one for one in hub.requests if one.path.startswith("/objects/")]
    assert {one.method for one in stored} == {"PUT", "GET"}
    assert not any(one.authorized for one in stored)
    assert all(one.authorized for one in hub.requests if one.path.startswith("/api/"))


def test_listing_comes_in_pages(hub, api, repo):
    hub.page_size = 2
    paths = {f"data/{index}.parquet" for index in range(5)}
    commit(api, [add(path, path.encode()) for path in paths])
    before = hub.num_requests("/tree/")
    assert paths < set(api.list_repo_files(REPO, repo_type="dataset"))
    listed = api.list_repo_tree(REPO, repo_type="dataset", recursive=True)
    assert paths < {entry.path for entry in listed}
    assert hub.num_requests("/tree/") - before >= 4


def test_unchanged_files_make_no_commit(hub, api, repo):
    first = commit(api, [add("a.parquet", b"one"), add("b.txt", b"two")])
    again = commit(api, [add("a.parquet", b"one"), add("b.txt", b"two")])
    assert again.oid == first.oid
    assert hub.num_requests("POST .*/commit/") == 1


def test_stored_content_is_not_sent_again(hub, api, repo):
    commit(api, [add("a.parquet", b"one")])
    commit(api, [add("b.parquet", b"one"), CommitOperationDelete("a.parquet")])
    assert hub.files(REPO) == {"b.parquet": b"one"}
    assert hub.num_requests("PUT /objects/") == 1


def test_stale_parent_is_refused_and_nothing_committed(hub, api, repo):
    stale = api.dataset_info(REPO).sha
    hub.commit(REPO, {"other.txt": b"other"})
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, [add("a.parquet", b"one")], parent_commit=stale)
    assert caught.value.response.status_code == 412
    assert hub.files(REPO) == {"other.txt": b"other"}


def test_branches_and_tags_hold_what_they_were_made_of(hub, api, repo):
    first = commit(api, [add("a.txt", b"one")])
    api.create_tag(REPO, tag="v1", repo_type="dataset")
    api.create_branch(REPO, branch="next", repo_type="dataset")
    second = commit(api, [add("a.txt", b"two")], revision="next")
    refs = api.list_repo_refs(REPO, repo_type="dataset")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": first.oid,
        "next": second.oid,
    }
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    assert hub.files(REPO) == {"a.txt": b"one"}


def test_pull_request_is_a_draft_that_takes_commits(hub, api, repo):
    opened = api.create_pull_request(REPO, title="more", repo_type="dataset")
    commit(api, [add("a.txt", b"one")], revision=opened.git_reference)
    api.change_discussion_status(REPO, opened.num, "open", repo_type="dataset")
    (listed,) = api.get_repo_discussions(REPO, repo_type="dataset")
    assert (opened.status, listed.status, listed.author) == ("draft", "open", "alice")
    assert hub.files(REPO) == {}
    assert hub.files(REPO, opened.git_reference) == {"a.txt": b"one"}


def test_who_may_not_is_told_so(hub, api):
    api.create_repo(REPO, repo_type="dataset", private=True)
    assert HfApi(endpoint=hub.url, token=READ).dataset_info(REPO).private
    for token, kind, status in (
        (False, RepositoryNotFoundError, 401),
        (OTHER, RepositoryNotFoundError, 404),
        ("hf_wrong", HfHubHTTPError, 401),
    ):
        with pytest.raises(kind) as caught:
            HfApi(endpoint=hub.url, token=token).dataset_info(REPO)
        assert caught.value.response.status_code == status
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.url, token=READ).create_branch(REPO, branch="b", repo_type="dataset")
    assert caught.value.response.status_code == 403


def test_what_is_not_there_is_told_so(api, repo, tmp_path):
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(REPO, revision="none")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(REPO, "none", repo_type="dataset", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("alice/none")


def image_parquet() -> bytes:
    """Six images of two classes, as datasets reads them."""
    cells = []
    for index in range(6):
        encoded = io.BytesIO()
        Image.fromarray(numpy.full((4, 4, 3), index, numpy.uint8)).save(encoded, "PNG")
        cells.append({"bytes": encoded.getvalue(), "path": None})
    image = pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    features = (
        '{"info": {"features": {"image": {"_type": "Image"},'
        ' "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    )
    table = pa.table({"image": image, "label": pa.array([0, 1] * 3)})
    written = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), written)
    return written.getvalue()


READER = """
import datasets
for streaming in (False, True):
    split = datasets.load_dataset("alice/images", split="train", streaming=streaming)
    rows = [(row["image"].getpixel((0, 0))[0], row["label"]) for row in split]
    print(rows == [(index, index % 2) for index in range(6)], split.features["label"].names)
"""


def test_datasets_reads_a_private_repository_whole_and_streaming(hub, tmp_path):
    hub.add_repo(REPO, private=True)
    hub.commit(REPO, {"data/train-00000.parquet": image_parquet(), "README.md": b"# words\n"})
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": WRITE,
    }
    done = subprocess.run(
        [sys.executable, "-c", READER], env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.stdout.splitlines() == ["True ['cat', 'dog']"] * 2, done.stderr
    assert_no_token(done.stdout + done.stderr)
