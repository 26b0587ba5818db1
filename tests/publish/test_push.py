"""A push ends with exactly the wanted content, or with none of it and a reason."""

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import HfApi

from factory.publish.push import push
from factory.publish.upload import PushFile
from factory.spec import JobError, PublishSpec, SpecError
from factory.store import Store
from tests.publish.conftest import OTHER, READ, WRITE, assert_no_token, refused

REPO = "alice/images"
COMMIT = "POST .*/commit/"
STORE = "PUT /objects/"

SHARDS = {f"data/synthetic/{index}.parquet": b"shard %d" % index * 99 for index in range(4)}
FILES = {"README.md": b"# words\n", "assets/sheet.png": b"picture", **SHARDS}


def to_push(contents):
    return {path: PushFile.of_bytes(data) for path, data in contents.items()}


@pytest.fixture
def publish(api, patience):
    """Push contents to the double."""

    def publish(contents, **options):
        asked = {"repo_id": REPO, "message": "m", "api": api, "patience": patience}
        return push(to_push(contents), **asked | {"replace": ["data/synthetic"]} | options)

    return publish


# What a push does


def test_first_push_makes_a_private_repository_with_exactly_the_files(hub, publish):
    pushed = publish(FILES)
    assert hub.files(REPO) == FILES
    assert hub.repos[REPO].private
    assert hub.num_requests(COMMIT) == 1
    assert pushed.num_uploaded == len(FILES)
    assert pushed.num_bytes == sum(map(len, FILES.values()))
    assert (pushed.num_unchanged, pushed.num_deleted) == (0, 0)
    assert pushed.commit == hub.repos[REPO].branches["main"]
    assert pushed.url == f"{hub.url}/datasets/{REPO}"


def test_second_push_makes_no_commit_and_sends_nothing(hub, publish):
    first = publish(FILES)
    before = len(hub.requests)
    again = publish(FILES)
    assert {one.method for one in hub.requests[before:]} == {"GET"}
    assert again.commit == first.commit
    assert (again.num_uploaded, again.num_bytes, again.num_unchanged) == (0, 0, len(FILES))


def test_growth_sends_new_files_and_replaces_the_short_last_shard_in_one_commit(hub, publish):
    publish(FILES)
    hub.commit(REPO, {"notes/mine.txt": b"mine", "data/other/0.parquet": b"of another config"})
    # Of the card's size, so that only its content tells.
    grown = {**FILES, "data/synthetic/3-longer.parquet": b"longer", "README.md": b"# other\n"}
    del grown["data/synthetic/3.parquet"]
    stored = hub.num_requests(STORE)
    pushed = publish(grown)
    foreign = {"notes/mine.txt": b"mine", "data/other/0.parquet": b"of another config"}
    assert hub.files(REPO) == grown | foreign
    assert (pushed.num_uploaded, pushed.num_deleted) == (2, 1)
    assert hub.num_requests(STORE) == stored + 1
    assert hub.num_requests(COMMIT) == 2


def test_file_beside_a_replaced_folder_stays(hub, publish):
    hub.add_repo(REPO, private=True)
    hub.commit(REPO, {"data/synthetic2/0.parquet": b"beside", "data/synthetic": b"a file"})
    publish({"data/synthetic/0.parquet": b"x"})
    assert {"data/synthetic2/0.parquet", "data/synthetic"} < set(hub.files(REPO))


def test_shards_come_from_a_store_and_memory_holds_a_group_at_a_time(
    hub, api, publish, tmp_path, monkeypatch
):
    monkeypatch.setattr("factory.publish.upload._GROUP_BYTES", 2 * len(SHARDS[next(iter(SHARDS))]))
    store = Store(str(tmp_path))
    files = {}
    for path, data in SHARDS.items():
        store.put(path, data)
        known = PushFile.of_bytes(data)
        files[path] = PushFile.of_store(store, path, sha256=known.sha256, num_bytes=known.num_bytes)
    push(files, repo_id=REPO, message="m", api=api)
    assert hub.files(REPO) == SHARDS
    batches = [one.path for one in hub.requests if one.path.endswith(("batch", "/commit/main"))]
    assert [path.rsplit("/", 1)[1] for path in batches] == ["batch", "batch", "main"]


def test_shard_that_is_not_what_its_record_says_is_not_published(hub, api, patience):
    known = PushFile.of_bytes(b"as recorded")
    torn = PushFile(known.sha256, known.num_bytes, lambda: b"as it lies ")
    with refused(JobError, "data/0.parquet", known.sha256, "verify"):
        push({"data/0.parquet": torn}, repo_id=REPO, message="m", api=api, patience=patience)
    assert hub.files(REPO) == {}


def test_branch_is_made_from_main_and_main_stays(hub, publish):
    publish(FILES)
    pushed = publish({"README.md": b"# next\n"}, revision="next")
    assert hub.files(REPO) == FILES
    assert hub.files(REPO, "next") == {
        path: data for path, data in FILES.items() if path not in SHARDS
    } | {"README.md": b"# next\n"}
    assert pushed.revision == "next"


# Tags and pull requests


def test_tag_names_the_commit_and_a_second_push_finds_it(hub, publish):
    first = publish(FILES, tag="v1")
    assert hub.repos[REPO].tags == {"v1": first.commit}
    hub.commit(REPO, {"notes.txt": b"mine"})
    publish(FILES, tag="v1")
    assert hub.repos[REPO].tags == {"v1": first.commit}
    assert hub.num_requests("POST .*/tag/") == 2


def test_tag_with_other_content_is_refused_before_anything_is_sent(hub, publish):
    publish(FILES, tag="v1")
    stored = hub.num_requests(STORE)
    with refused(SpecError, "tag v1", "another tag"):
        publish(FILES | {"data/synthetic/4.parquet": b"more"}, tag="v1")
    assert hub.files(REPO) == FILES
    assert hub.num_requests(STORE) == stored


def test_tag_that_another_publisher_took_meanwhile_is_told(hub, publish):
    def take():
        hub.repos[REPO].tags["v1"] = hub.repos[REPO].history[0].oid

    hub.fault("POST .*/tag/", meanwhile=take)
    with refused(JobError, "tag v1"):
        publish(FILES, tag="v1")


def test_pull_request_is_opened_once_and_updated(hub, publish):
    publish(FILES)
    grown = FILES | {"data/synthetic/4.parquet": b"more"}
    first = publish(grown, create_pr=True)
    second = publish(grown | {"README.md": b"# more\n"}, create_pr=True)
    assert hub.files(REPO) == FILES
    assert hub.files(REPO, "refs/pr/1") == grown | {"README.md": b"# more\n"}
    (pull,) = hub.repos[REPO].pulls
    assert pull.status == "open"
    assert first.pull_request == second.pull_request == f"{hub.url}/datasets/{REPO}/discussions/1"
    assert (first.revision, second.num_uploaded) == ("refs/pr/1", 1)


def test_pull_request_whose_opening_lost_its_reply_is_found_again(hub, publish):
    publish(FILES)
    hub.fault("POST .*/discussions$", drops_reply=True)
    publish(FILES | {"README.md": b"# more\n"}, create_pr=True, message="more words\n")
    assert len(hub.repos[REPO].pulls) == 1
    assert hub.files(REPO, "refs/pr/1") == FILES | {"README.md": b"# more\n"}


def test_no_pull_request_is_opened_where_main_holds_the_files(hub, publish):
    publish(FILES)
    assert publish(FILES, create_pr=True).pull_request is None
    assert hub.repos[REPO].pulls == []


@pytest.mark.parametrize("other", [{"tag": "v1"}, {"revision": "next"}])
def test_pull_request_with_a_tag_or_a_branch_is_refused(hub, publish, other):
    with refused(SpecError, "create_pr", next(iter(other))):
        publish(FILES, create_pr=True, **other)
    with pytest.raises(ValueError, match=r"create_pr and .* exclude each other"):
        PublishSpec(create_pr=True, **other)
    assert hub.requests == []


# Faults


@pytest.mark.parametrize(
    "kind",
    [
        {"cut_after": 100},
        {"drops_reply": True},
        {"status": 503, "times": 3},
        {"status": 409},
        {"status": 500, "meanwhile": None},
    ],
    ids=["cut", "lost reply", "503 thrice", "409", "500 and moved on"],
)
def test_commit_that_fails_is_made_once_and_whole(hub, publish, waits, kind):
    hub.add_repo(REPO, private=True)
    foreign = {}
    if "meanwhile" in kind:
        foreign = {"notes.txt": b"mine"}
        kind = kind | {"meanwhile": lambda: hub.commit(REPO, foreign)}
    hub.fault(COMMIT, **kind)
    publish(FILES)
    assert hub.files(REPO) == FILES | foreign
    made = [one for one in hub.repos[REPO].history if one.title == "m"]
    assert len(made) == 1
    assert waits == [0.5, 1.0, 2.0][: kind.get("times", 1)]
    # What was stored for the first try serves the others.
    assert hub.num_requests(STORE) == len(FILES) - 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "17"}, 17.5), ({"RateLimit": '"api";r=0;t=55'}, 55.5), ({}, 0.5)],
)
def test_wait_that_the_hub_asks_for_is_kept(hub, publish, waits, headers, seconds):
    hub.fault(COMMIT, status=429, headers=headers)
    publish(FILES)
    assert waits == [seconds]
    assert hub.files(REPO) == FILES


@pytest.mark.parametrize(
    "question",
    ["whoami", "repos/create", "GET .*/images$", "/refs", "/tag/", "/branch/"],
)
def test_question_that_fails_is_asked_again(hub, publish, waits, question):
    hub.fault(question, status=503)
    hub.fault(question, drops_reply=True)
    publish(FILES, tag="v1", revision="next")
    assert hub.files(REPO, "next") == FILES
    assert hub.repos[REPO].tags["v1"] == hub.repos[REPO].branches["next"]
    assert len(waits) == 2


def test_stored_content_is_read_once_however_often_the_commit_fails(hub, api, patience):
    reads = []

    def read():
        reads.append(None)
        return b"shard"

    known = PushFile.of_bytes(b"shard")
    files = {"data/0.parquet": PushFile(known.sha256, known.num_bytes, read)}
    hub.fault(COMMIT, status=503, times=3)
    push(files, repo_id=REPO, message="m", api=api, patience=patience)
    assert hub.files(REPO) == {"data/0.parquet": b"shard"}
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"status": 401}, SpecError, ("does not accept the token", "hf auth login")),
        ({"status": 401, "headers": {"X-Error-Code": "RepoNotFound"}}, SpecError, ("not found",)),
        ({"status": 403}, SpecError, ("not allowed", "write permission")),
        ({"status": 413}, JobError, ("413", "nothing was committed")),
    ],
)
def test_commit_that_is_refused_is_told_at_once(hub, publish, waits, fault, kind, words):
    hub.fault(COMMIT, **fault)
    with refused(kind, REPO, *words):
        publish(FILES)
    assert waits == []
    assert hub.files(REPO) == {}


def test_content_whose_address_expired_gets_a_new_one(hub, publish, waits):
    hub.fault(STORE, status=403, times=2)
    publish(SHARDS)
    assert hub.files(REPO) == SHARDS
    assert waits


def test_stale_parent_is_computed_anew(hub, publish, waits):
    hub.add_repo(REPO, private=True)
    meanwhile = {"data/synthetic/stale.parquet": b"goes", "notes.txt": b"stays"}
    hub.fault(COMMIT, meanwhile=lambda: hub.commit(REPO, meanwhile))
    pushed = publish(FILES)
    assert hub.files(REPO) == FILES | {"notes.txt": b"stays"}
    assert pushed.num_deleted == 1
    assert waits == [0.5]


def test_fault_that_does_not_pass_ends_the_push_with_the_branch_as_it_was(hub, publish, waits):
    publish(FILES)
    hub.fault(COMMIT, status=503, times=99)
    grown = FILES | {"data/synthetic/4.parquet": b"more"}
    with refused(JobError, "503", "5 times", REPO):
        publish(grown)
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert hub.files(REPO) == FILES
    hub.faults.clear()
    stored = hub.num_requests(STORE)
    publish(grown)
    assert hub.files(REPO) == grown
    assert hub.num_requests(STORE) == stored


def test_card_that_the_hub_refuses_ends_the_push(hub, publish):
    with refused(JobError, "README.md", "nothing was committed"):
        publish({"README.md": b"---\na: [\n---\n"})
    assert hub.files(REPO) == {}


def test_files_that_gitignore_names_are_missed(hub, publish):
    hub.add_repo(REPO, private=True)
    hub.commit(REPO, {".gitignore": b"*.png"})
    with refused(JobError, "assets/sheet.png", ".gitignore"):
        publish(FILES)


@pytest.mark.parametrize("overlap", ["same files", "two configs"])
def test_two_publishers_at_once_both_end_with_all_their_files(hub, publish, overlap):
    hub.add_repo(REPO, private=True)
    real = {"data/real/0.parquet": b"real", "data/real/1.parquet": b"real too"}
    others = (FILES, "data/synthetic") if overlap == "same files" else (real, "data/real")
    # Both have looked and uploaded when the first of them commits.
    hub.fault(COMMIT, times=2, meanwhile=threading.Barrier(2, timeout=60).wait)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(publish, FILES, tag="one")
        other = pool.submit(publish, others[0], replace=[others[1]], tag="other")
        commits = [one.result().commit, other.result().commit]
    assert hub.files(REPO) == FILES | others[0]
    made = [commit.oid for commit in hub.repos[REPO].history if commit.title == "m"]
    assert sorted(made) == sorted(set(commits))
    assert len(made) == (1 if overlap == "same files" else 2)


# A process that dies

PUBLISHER = """
import logging, sys
from factory.hub import Patience
from factory.publish.push import push
from factory.publish.upload import PushFile
logging.basicConfig(level=logging.DEBUG)
files = {f"data/{index}.parquet": PushFile.of_bytes(bytes([index]) * 200_000) for index in range(3)}
patience = Patience(max_tries=2, first_seconds=0.1)
print(push(files, repo_id="alice/images", message="m", patience=patience).model_dump_json())
"""


def publisher(hub, tmp_path, **settings):
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_TOKEN": WRITE}
    environment |= settings
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISHER],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_push_killed_in_an_upload_leaves_nothing_and_goes_on(hub, tmp_path):
    process = publisher(hub, tmp_path)
    contents = {f"data/{index}.parquet": bytes([index]) * 200_000 for index in range(3)}
    last = PushFile.of_bytes(contents["data/2.parquet"]).sha256
    others_stored = threading.Event()

    def kill():
        assert others_stored.wait(60)
        process.send_signal(signal.SIGKILL)

    # The last file's first half has come when the others are stored.
    hub.fault(f"{STORE}{last}", cut_after=100_000, meanwhile=kill)
    hub.fault("POST /lfs-verify/")
    hub.fault("POST /lfs-verify/", meanwhile=others_stored.set)
    out, err = process.communicate(timeout=90)
    assert process.returncode == -signal.SIGKILL
    assert hub.files(REPO) == {}
    assert hub.num_requests(COMMIT) == 0
    assert len(hub.objects) == 2
    assert_no_token(out + err)

    hub.requests.clear()
    process = publisher(hub, tmp_path)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert hub.files(REPO) == contents
    assert [one.path for one in hub.requests if one.method == "PUT"] == [f"/objects/{last}"]
    assert "0.6 of 0.6 MB" in err
    assert_no_token(out + err)


def test_upload_by_xet_that_fails_is_told_without_bars_and_token(hub, tmp_path):
    """The double stores nothing by xet, which is how the real Hub is used."""
    process = publisher(hub, tmp_path, HF_HUB_DISABLE_XET="0")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "JobError: alice/images: pushing to main as alice: failed 2 times" in err
    assert hub.num_requests("/xet-write-token/") >= 2
    assert_no_token(out + err)
    assert not re.search(r"[\r\x1b]", out + err)


# Who may


def test_missing_token_is_refused_before_any_request(hub, api, publish, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with refused(SpecError, REPO, "hf auth login", "HF_TOKEN"):
        publish(FILES)
    assert hub.requests == []


@pytest.mark.parametrize("token", ["hf_tok en", "hf_tok\x01en", "hf_tökén"])
def test_token_that_no_header_can_carry_is_not_shown(hub, publish, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with refused(SpecError, "hf auth login") as caught:
        publish(FILES)
    assert token not in repr(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "repo_id", "words"),
    [
        ("hf_unknown", REPO, ("401", "hf auth login")),
        (READ, REPO, ("may only read", "hf auth login")),
        (WRITE, "nobody/images", ("403", "nobody", "namespace")),
        (OTHER, REPO, ("403", "bob", "namespace")),
        (WRITE, "images", ("<your account>/images",)),
        (WRITE, "alice/im ages", ("alice/im ages",)),
    ],
)
def test_who_may_not_publish_is_told_before_anything_is_sent(
    hub, publish, monkeypatch, token, repo_id, words
):
    hub.add_repo(REPO)
    monkeypatch.setenv("HF_TOKEN", token)
    with refused(SpecError, *words):
        publish(FILES, repo_id=repo_id, private=False)
    assert hub.files(REPO) == {}
    assert hub.objects == {}


def test_member_of_an_organisation_publishes_there(hub, publish, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", OTHER)
    publish(FILES, repo_id="lab/images")
    assert hub.files("lab/images") == FILES


def test_public_repository_is_refused_where_private_is_asked_for(hub, publish):
    hub.add_repo(REPO)
    with refused(SpecError, "is public", "private: false"):
        publish(FILES)
    assert hub.files(REPO) == {}
    publish(FILES, private=False)
    assert hub.files(REPO) == FILES


def test_private_repository_stays_private_and_this_is_said(hub, publish, caplog):
    publish(FILES)
    publish(FILES, private=False)
    assert hub.repos[REPO].private
    assert "is private and stays it" in caplog.text


def test_unknown_pull_request_is_refused(hub, publish):
    with refused(SpecError, "refs/pr/7"):
        publish(FILES, revision="refs/pr/7")


def test_repository_that_another_publisher_makes_meanwhile_is_used(hub, publish, waits):
    hub.fault("repos/create", meanwhile=lambda: hub.add_repo(REPO, private=True))
    publish(FILES)
    assert hub.files(REPO) == FILES
    assert waits == []


def test_offline_environment_is_told(publish, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused(SpecError, "HF_HUB_OFFLINE"):
        publish(FILES)


def test_hub_that_is_not_there_is_told(publish, waits):
    with refused(JobError, "5 times"):
        publish(FILES, api=HfApi(endpoint="http://127.0.0.1:9"))
    assert len(waits) == 4


def test_address_that_is_none_is_told(publish, waits):
    with refused(SpecError, "HF_ENDPOINT"):
        publish(FILES, api=HfApi(endpoint="hub.example"))
    assert waits == []


# The real Hub, by hand: FACTORY_TEST_REPO=you/throwaway HF_TOKEN=... pytest -m slow

LIVE = """
import sys
from huggingface_hub import HfApi
from factory.publish.push import push
from factory.publish.upload import PushFile
repo_id, api = sys.argv[1], HfApi()
assert not api.repo_exists(repo_id, repo_type="dataset"), f"{repo_id} exists; name a new one"
contents = {"README.md": b"# A test\\n", "data/a.parquet": b"a" * 100_000, "data/b.png": b"b"}
try:
    for wanted in (contents, contents, {"data/c.parquet": b"c" * 100_000}):
        files = {path: PushFile.of_bytes(data) for path, data in wanted.items()}
        pushed = push(files, repo_id=repo_id, message="test", replace=["data"])
        print(pushed.num_uploaded, pushed.num_deleted)
    def read(path):
        local = api.hf_hub_download(repo_id, path, repo_type="dataset", revision=pushed.commit)
        return open(local, "rb").read()
    print(read("data/c.parquet") == b"c" * 100_000, read("README.md") == b"# A test\\n")
    print(sorted(api.list_repo_files(repo_id, repo_type="dataset")))
finally:
    api.delete_repo(repo_id, repo_type="dataset", missing_ok=True)
"""


@pytest.mark.slow
@pytest.mark.skipif("FACTORY_TEST_REPO" not in os.environ, reason="names no repository to make")
def test_live_hub_takes_a_push_and_gives_it_back(tmp_path):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_HUB_")}
    done = subprocess.run(
        [sys.executable, "-c", LIVE, os.environ["FACTORY_TEST_REPO"]],
        env=ours | {"HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout.splitlines() == [
        "3 0",
        "0 0",
        "1 2",
        "True True",
        "['.gitattributes', 'README.md', 'data/c.parquet']",
    ], done.stderr
    assert os.environ["HF_TOKEN"] not in done.stdout + done.stderr
