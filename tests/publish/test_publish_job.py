"""jobs/publish.py as people use it: killed, run again, and what readers of the dataset then get."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from factory.images import TRAINED_ALGORITHMIC_MEDIA
from factory.shards.manifest import Manifest
from factory.sources.open import open_source
from factory.spec import SourceSpec
from tests.datasets import make_dataset, plain_words
from tests.publish.conftest import WRITE, assert_no_token
from tests.publish.roots import save_real

JOBS = Path(__file__).parents[2] / "jobs"
REPO = "alice/images"
WORDS = ["licence=cc-by-4.0", "model_licence=mit", "accept=[memorisation_missing]"]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["parquet", "webdataset"])
def root(request, tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, output={"format": request.param})
    return tmp_path / "root"


@pytest.fixture
def environment(hub, tmp_path):
    """Of a user: the double as the Hub, a token, folders of their own."""
    (tmp_path / "tmp").mkdir()
    return os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": WRITE,
        "TMPDIR": str(tmp_path / "tmp"),
    }


@pytest.fixture
def start(environment, tmp_path):
    """Starts Python with the words given in an empty folder."""

    def process(*words):
        (tmp_path / "work").mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment,
            cwd=tmp_path / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return process


@pytest.fixture
def publish(start, root):
    def job(*words):
        process = start(JOBS / "publish.py", f"root={root}", f"repo_id={REPO}", *WORDS, *words)
        out, err = process.communicate(timeout=120)
        assert_no_token(out + err)
        assert process.returncode == 0, err
        return json.loads(out)

    return job


def verify(start, *words):
    process = start(JOBS / "verify.py", f"hub:{REPO}", *words)
    out, err = process.communicate(timeout=120)
    assert_no_token(out + err)
    return process.returncode, json.loads(out) if out else err


READER = """
import json, sys
from collections import Counter
import datasets, numpy
from factory.images import pixel_digest
repo_id, image, label = sys.argv[1:4]
for config in sys.argv[4:]:
    for streaming in (False, True):
        split = datasets.load_dataset(repo_id, config or None, split="train", streaming=streaming)
        counts, num_right = Counter(), 0
        for row in split:
            facts = row.get("json") or row
            pixels = numpy.asarray(row[image])
            num_right += pixel_digest(pixels) == facts["pixel_sha256"]
            counts[split.features[label].int2str(row[label])] += 1
            assert facts["class_name"] == split.features[label].int2str(row[label])
        print(json.dumps([config, streaming, split.features[label].names, counts, num_right]))
"""


def test_published_dataset_is_what_its_manifest_says_to_every_reader(
    hub, root, start, publish, tmp_path
):
    source = json.dumps({"path": str(save_real(tmp_path / "real.parquet"))})
    publish(
        "private=false",
        "more.real={kind: real, licence: mit, source: " + source + "}",
        "more.fuller={kind: mix, real: real, mix: {kind: add, images_per_class: 2}}",
    )
    manifest = Manifest.model_validate_json(hub.files(REPO)["manifest.json"])
    form = manifest.configs[0].format
    columns = ("image", "label") if form == "parquet" else ("png", "cls")
    # Without a name the root's own config is loaded, whatever the order of the others.
    by_name = {config.name: config for config in manifest.configs} | {"": manifest.configs[0]}
    out, err = start("-c", READER, REPO, *columns, *by_name).communicate(timeout=120)
    assert_no_token(out + err)
    assert [json.loads(line) for line in out.splitlines()] == [
        [name, streaming, list(config.class_names), config.class_counts, config.num_images]
        for name, config in by_name.items()
        for streaming in (False, True)
    ], err
    assert verify(start)[0] == 0
    assert verify(start, "download=true")[0] == 0
    file = next(path for path in hub.files(REPO) if path.startswith("data/fuller/"))
    data = bytearray(hub.files(REPO)[file])
    data[100] ^= 1
    hub.commit(REPO, {file: bytes(data)})
    code, report = verify(start)
    assert (code, report["findings"][0]["file"]) == (3, file)


WEBDATASET = """
import sys, webdataset
urls = [f"pipe:curl -s -L {url}" for url in sys.argv[1:]]
for image, label, facts in (
    webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "cls", "json")
):
    print(image.size, label, facts["class_name"])
"""


@pytest.mark.parametrize("root", ["webdataset"], indirect=True)
def test_webdataset_reads_the_tars_over_http(hub, root, start, publish):
    publish("private=false")
    manifest = Manifest.model_validate_json(hub.files(REPO)["manifest.json"])
    where = f"{hub.url}/datasets/{REPO}/resolve/main"
    urls = [f"{where}/{file.path}" for file in manifest.files]
    out, err = start("-c", WEBDATASET, *urls).communicate(timeout=60)
    labels = open_source(SourceSpec(path=str(root))).labels.tolist()
    names = manifest.configs[0].class_names
    assert out.splitlines() == [f"(8, 8) {label} {names[label]}" for label in labels], err


@pytest.mark.parametrize("root", ["parquet"], indirect=True)
def test_job_killed_in_an_upload_leaves_nothing_and_goes_on(
    hub, root, start, publish, environment, tmp_path
):
    shards = sorted(json.loads(path.read_text())["sha256"] for path in root.glob("records/*/*"))
    process = start(JOBS / "publish.py", f"root={root}", f"repo_id={REPO}", *WORDS)
    others_stored = threading.Event()

    def kill():
        assert others_stored.wait(60)
        process.send_signal(signal.SIGKILL)

    hub.fault(f"PUT /objects/{shards[0]}", cut_after=100, meanwhile=kill)
    hub.fault("POST /lfs-verify/")
    hub.fault("POST /lfs-verify/", meanwhile=others_stored.set)
    out, err = process.communicate(timeout=120)
    assert_no_token(out + err)
    assert process.returncode == -signal.SIGKILL
    assert hub.files(REPO) == {}

    hub.requests.clear()
    report = publish()
    assert [one.path for one in hub.requests if one.method == "PUT"] == [f"/objects/{shards[0]}"]
    assert len(hub.files(REPO)) == report["num_files"] == 6
    assert publish()["pushed"]["num_uploaded"] == 0
    assert hub.num_requests("POST .*/commit/") == 1
    assert files_with_token(tmp_path) == []


def files_with_token(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if WRITE.encode() in path.read_bytes()]


@pytest.fixture
def ray_folder(environment):
    """Where Ray leaves what it writes; its sockets limit the path to about 60 characters."""
    with tempfile.TemporaryDirectory(prefix="pub-") as folder:
        environment["TMPDIR"] = folder
        yield Path(folder)


@pytest.mark.ray
def test_no_file_holds_the_token_after_a_dataset_was_made_and_published(
    hub, start, environment, ray_folder, tiny_model, tmp_path
):
    root = tmp_path / "root"
    sizes = {"num_images": 6, "shard_size": 3, "batch_size": 3, "threads": 1}
    fields = [f"{name}={value}" for name, value in sizes.items()]
    making = start(JOBS / "generate.py", *plain_words(tiny_model), *fields, "--root", root)
    out, err = making.communicate(timeout=200)
    assert making.returncode == 0, err
    assert_no_token(out + err)
    publishing = start(JOBS / "publish.py", f"root={root}", f"repo_id={REPO}", *WORDS)
    out, err = publishing.communicate(timeout=120)
    assert publishing.returncode == 0, err
    assert_no_token(out + err)
    written = {path.name for path in ray_folder.rglob("*") if path.is_file()}
    assert "raylet.out" in written
    assert "README.md" in {path.name for path in tmp_path.rglob("*")}
    assert files_with_token(ray_folder) == files_with_token(tmp_path) == []


@pytest.mark.parametrize("root", ["parquet"], indirect=True)
def test_job_without_licence_ends_with_2_and_without_repository_with_0(hub, root, start):
    for words, code in (([f"repo_id={REPO}"], 2), ([], 0), (["--dry-run"], 0)):
        process = start(JOBS / "publish.py", f"root={root}", *words)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        said = err if code else " ".join(json.loads(out)["refused"])
        assert "memorisation_missing" in said
        assert "licence" in said
    assert not hub.requests


def images_of(root: Path, export: Path, folder: Path) -> dict[str, list[Path]]:
    """Where an image lies -> a file for each, in the order of the shards' images."""
    found: dict[str, list[bytes]] = {"export": [], "shard": []}
    for line in (export / "metadata.jsonl").read_text().splitlines():
        found["export"].append((export / json.loads(line)["file_name"]).read_bytes())
    for shard in sorted((root / "data").iterdir()):
        if shard.suffix == ".parquet":
            rows = pq.read_table(shard, columns=["image"])["image"].to_pylist()
            found["shard"] += [row["bytes"] for row in rows]
        else:
            with tarfile.open(shard) as tar:
                members = [member for member in tar if member.name.endswith(".png")]
                found["shard"] += [tar.extractfile(member).read() for member in members]
    files = {}
    for kind, images in found.items():
        (folder / kind).mkdir(parents=True)
        files[kind] = [folder / kind / f"{number:03d}.png" for number in range(len(images))]
        for file, image in zip(files[kind], images, strict=True):
            file.write_bytes(image)
    return files


def test_exiftool_reads_the_mark_wherever_an_image_lies(root, start, tmp_path):
    words = [f"root={root}", f"export={tmp_path / 'images'}"]
    process = start(JOBS / "publish.py", *words)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    files = images_of(root, tmp_path / "images", tmp_path / "single")
    source = open_source(SourceSpec(path=str(root)))
    for images in files.values():
        pixels = [np.asarray(Image.open(io.BytesIO(file.read_bytes()))) for file in images]
        assert np.array_equal(np.stack(pixels), source.images)
    try:
        asked = [
            "exiftool",
            "-json",
            "-n",
            "-XMP-iptcExt:DigitalSourceType",
            *chain.from_iterable(files.values()),
        ]
        read = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    marks = [one.get("DigitalSourceType", "") for one in json.loads(read.stdout)]
    assert len(marks) == 80
    assert {mark.rpartition("/")[2] for mark in marks} == {TRAINED_ALGORITHMIC_MEDIA}
