"""The job as a user meets it: what it refuses, what it prints, how it stops and goes on."""

import itertools
import json
import os
import pty
import re
import runpy
import shutil
import signal
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from factory.generate.prepare import prepare
from factory.records import dataset_digest
from tests.conftest import save_tiny_model
from tests.datasets import SMALL, make_dataset, plain_words, small_spec
from tests.test_layers import HEAVY

JOBS = Path(__file__).parents[2] / "jobs"
JOB = JOBS / "generate.py"
# Runs the job in a fresh interpreter, and notes in a file what it imported and what it cost.
SPY = f"""
import json, runpy, sys, time
seen = sys.argv.pop(1)
try:
    runpy.run_path({str(JOB)!r}, run_name="__main__")
finally:
    with open(seen, "w") as file:
        json.dump([sorted({HEAVY!r} & set(sys.modules)), time.process_time()], file)
"""
PROGRESS = (
    r"[\d,]+ of [\d,]+ images, (starting|[^,]+ gone|[\d,.]+ images/s, [^,]+ gone, [^,]+ to go)"
)
GOES_ON = "stopped; the same command goes on from here"


def small(model, *overrides):
    """Words that ask for `tests.datasets.small_spec`."""
    return [*plain_words(model), *(f"{key}={value}" for key, value in SMALL.items()), *overrides]


def run_job(*words, job=JOB, **options):
    command = [sys.executable, str(job), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, **options)


@contextmanager
def started(*words, **options):
    """The job as a running process, which does not outlive the block."""
    command = [sys.executable, str(JOB), *map(str, words)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield job
    finally:
        job.kill()
        job.wait()


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_model):
    """Digest of the small dataset, made in one process."""
    made = make_dataset(tmp_path_factory.mktemp("expected"), tiny_model)
    return dataset_digest(made.inventory.records)


@pytest.fixture
def address(ray_cluster):
    return ray_cluster.get_runtime_context().gcs_address


# Refusals


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """Runs the job in an empty folder; gives the line with which it refuses, doing nothing."""
    folder = tmp_path / "shell"
    folder.mkdir()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def line(*words):
        before = files(tmp_path)
        seen = tmp_path.with_name(f"{tmp_path.name}-seen")
        done = subprocess.run(
            [sys.executable, "-c", SPY, str(seen), *map(str, words)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        heavy, cpu_seconds = json.loads(seen.read_text())
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert heavy == []
        assert cpu_seconds < 5
        assert files(tmp_path) == before
        *usage, last = done.stderr.splitlines()
        assert all(part.startswith(("usage: ", "   ")) for part in usage), done.stderr
        assert "error: " in last
        return last

    return line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nmu_images=5"], ["nmu_images", "num_images"]),
        (["generator.sheduler=heun"], ["generator.sheduler", "scheduler"]),
        (["num_images=many"], ["num_images", "'many'", "integer"]),
        (["num_images=-1"], ["num_images", "-1", "greater than or equal to 0"]),
        (["images_per_class={cat: -3}"], ["images_per_class.cat", "-3"]),
        (["none.yaml"], ["none.yaml", "cannot be read", "give a YAML file"]),
        (["one.yaml", "two.yaml"], ["one.yaml", "two.yaml", "give one"]),
        (["--rot", "here"], ["--rot"]),
        (["generator.model=./nowhere"], ["./nowhere", "no folder", "embedded"]),
        (["generator.model=nobody/nothing"], ["nobody/nothing", "Hub", "give a folder"]),
    ],
)
def test_what_needs_no_model_is_refused(refusal, words, named):
    line = refusal(*words)
    assert all(part in line for part in named), line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["class_names=[cat, lion]"], ["class_names", "lion", "'cat', 'dog'"]),
        (["images_per_class={lion: 3}", "num_images=null"], ["images_per_class", "lion", "'cat'"]),
        (["--root", "memory://x"], ["memory://x", "one process", "s3://"]),
        (["--root", "/proc/factory"], ["/proc/factory", "cannot be written", "--root"]),
        (["--root", "/dev/null/deep/root"], ["Not a directory", "--root"]),
        (["--root", "nosuch://x"], ["nosuch", "not known", "s3://"]),
        (["preview=true"], ["preview", "--dry-run"]),
    ],
)
def test_what_the_model_or_the_root_cannot_do_is_refused(refusal, tiny_model, words, named):
    line = refusal(*small(tiny_model), *words)
    assert all(part in line for part in named), line


def test_a_root_below_a_file_is_refused(refusal, tiny_model, tmp_path):
    (tmp_path / "file").touch()
    line = refusal(*small(tiny_model), "--root", tmp_path / "file" / "root")
    assert "Not a directory" in line


@pytest.mark.parametrize("damage", ["no weights", "no JSON", "another class", "no index"])
def test_an_unreadable_model_folder_is_refused(refusal, tiny_model, tmp_path, damage):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    index = model / "model_index.json"
    match damage:
        case "no weights":
            next(model.rglob("*.safetensors")).unlink()
        case "no JSON":
            index.write_text("{")
        case "another class":
            index.write_text(index.read_text().replace("EdmPipeline", "DDPMPipeline"))
        case "no index":
            index.unlink()
    line = refusal(*small(model))
    assert "generator.model" in line
    assert str(model) in line


def test_guidance_of_a_model_that_takes_none_is_refused(refusal, tmp_path):
    model = save_tiny_model(tmp_path / "model", label_dropout=0.0)
    line = refusal(*small(model, "generator.guidance_scale=2"))
    assert all(part in line for part in ("guidance_scale", "2.0", "label_dropout 0", "give 1"))


def test_a_root_of_another_spec_is_refused_with_the_difference(refusal, tiny_model, tmp_path):
    make_dataset(tmp_path / "root", tiny_model)
    line = refusal(*small(tiny_model, "seed=1"), "--root", tmp_path / "root")
    assert "seed: 0 -> 1" in line
    assert "--root" in line


def test_a_bucket_that_is_not_there_is_refused(refusal, s3_bucket, tiny_model):
    line = refusal(*small(tiny_model), "--root", "s3://no-such-bucket/root")
    assert all(part in line for part in ("s3://no-such-bucket/root", "bucket", "--root")), line


def test_s3_without_credentials_is_refused(refusal, tiny_model, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    line = refusal(*small(tiny_model), "--root", "s3://bucket/root")
    assert "credentials" in line


@pytest.mark.ray
@pytest.mark.timeout(120)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:none"])
def test_a_cluster_that_does_not_answer_is_refused(tiny_model, tmp_path, address):
    done = run_job(*small(tiny_model), "--root", tmp_path / "root", "--address", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --address {address}: no Ray cluster answers")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "root").exists()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_an_address_where_something_else_listens_is_refused(tiny_model, tmp_path):
    class Web(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        done = run_job(*small(tiny_model), "--root", tmp_path / "root", "--address", address)
        server.shutdown()
    assert done.returncode == 2
    assert f"--address {address}" in done.stderr
    assert "something else listens there" in done.stderr
    assert not (tmp_path / "root").exists()


# Looking before making


@pytest.fixture
def look(monkeypatch, capsys, tmp_path):
    """Runs the job in this process, in `tmp_path`; returns its report."""
    monkeypatch.chdir(tmp_path)

    def job(*words):
        monkeypatch.setattr(sys, "argv", ["generate.py", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(JOB), run_name="__main__")
        out, err = capsys.readouterr()
        assert (stop.value.code, err) == (0, "")
        return json.loads(out)

    return job


def test_dry_run_tells_counts_and_writes_nothing(look, tiny_model, tmp_path, caplog):
    report = look(*small(tiny_model), "--dry-run")
    assert "preview=true draws a batch" in caplog.text
    assert (report["num_images"], report["num_shards"]) == (40, 3)
    assert (report["done"], report["pending"], report["estimate"]) == (0, 3, None)
    assert report["root"] == str(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_dry_run_with_preview_saves_a_picture_and_times_a_batch(look, tiny_model, tmp_path):
    report = look(*small(tiny_model), "--dry-run", "preview=true")
    assert [str(path) for path in tmp_path.iterdir()] == [report["preview"]]
    assert Path(report["preview"]).read_bytes().startswith(b"\x89PNG")
    estimate = report["estimate"]
    assert estimate["measured_on"] == "one batch of 6 images"
    assert estimate["seconds"] > 0
    assert estimate["num_bytes"] > 40 * 100


def test_preview_times_whole_batches(look, tiny_model, tmp_path, monkeypatch):
    ticks = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("factory.generate.preview.time", ticks)
    report = look(*small(tiny_model), "--dry-run", "preview=true")
    # Shards of 16, 16 and 8 images in batches of 6: 3 + 3 + 2, each of one second.
    assert report["estimate"]["actor_seconds"] == 8.0


def test_root_of_results_is_no_place_for_a_dataset(tiny_model, tmp_path):
    (tmp_path / "asked.json").write_text("{}")
    done = run_job(*small(tiny_model), "--root", tmp_path)
    assert done.returncode == 2
    assert "holds the results of a job" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["asked.json"]


def test_dry_run_with_recheck_names_what_would_be_made_again(look, tiny_model, tmp_path):
    made = make_dataset(tmp_path / "out", tiny_model)
    file = tmp_path / "out" / made.inventory.records[1].file
    flip_a_bit(file)
    report = look(*small(tiny_model), "--dry-run", "recheck=true")
    assert (report["done"], report["pending"]) == (2, 1)
    assert f"data/{file.name}" in report["broken"]
    assert file.exists()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# Making


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_run_on_this_machine_prints_json_and_progress_and_a_further_run_nothing_more(
    tiny_model, tmp_path, expected, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = [*small(tiny_model), "--root", tmp_path / "root"]
    first = run_job(*words)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert (report["digest"], report["made"]) == (expected, 3)
    lines = first.stderr.splitlines()
    assert lines
    assert all(re.fullmatch(PROGRESS, line) for line in lines), first.stderr
    # Nobody answers at that address: a further run needs no Ray.
    further = run_job(*words, "--address", "127.0.0.1:1")
    assert further.returncode == 0, further.stderr
    again = json.loads(further.stdout)
    assert (again["digest"], again["made"], again["skipped"]) == (expected, 0, 3)
    assert further.stderr == "nothing to make: all 3 shards (40 images) are there\n"


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_on_a_terminal_there_is_a_bar(address, tiny_model, tmp_path):
    words = [*small(tiny_model), "--root", tmp_path / "root", "--address", address]
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    with started(*words, stderr=its) as job:
        os.close(its)
        screen = read_to_end(ours)
        out, _ = job.communicate(timeout=10)
    assert json.loads(out)["num_images"] == 40
    assert "40/40 [" in screen
    assert " of 40 images" not in screen


def read_to_end(terminal):
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # Linux ends a terminal that nobody holds any more with EIO
            os.close(terminal)
            return shown.decode()


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_ctrl_c_says_how_to_go_on_leaves_no_process_and_loses_nothing(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    endless = {"num_images": 10_000_000}
    words = [*small(tiny_model, "num_images=10000000"), "--root", tmp_path]
    with started(*words, stderr=subprocess.PIPE, start_new_session=True) as job:
        starting = job.stderr.readline()
        # On a busy machine lines come before the first shard.
        first = next(line for line in job.stderr if not line.startswith("0 of "))
        children = psutil.Process(job.pid).children(recursive=True)
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does
        out, rest = job.communicate(timeout=120)
    assert starting.endswith("starting\n")
    assert re.fullmatch(PROGRESS, first.strip())
    assert (job.returncode, out) == (1, "")
    *progress, last = rest.splitlines()
    assert all(re.fullmatch(PROGRESS, line) for line in progress), rest
    assert last == GOES_ON
    assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    after = prepare(small_spec(tiny_model, **endless), str(tmp_path))
    assert after.inventory.records
    assert after.inventory.broken == {}


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_damage_is_named_by_verify_and_mended_by_the_same_command_with_recheck(
    address, tiny_model, tmp_path, expected
):
    made = make_dataset(tmp_path, tiny_model).inventory.records
    (tmp_path / made[0].name).write_text("{ corrupted")
    truncated = tmp_path / made[1].file
    truncated.write_bytes(truncated.read_bytes()[:-100])
    flip_a_bit(tmp_path / made[2].file)

    def verify():
        done = run_job("--root", tmp_path, job=JOBS / "verify.py")
        return done.returncode, done.stdout

    code, named = verify()
    assert code == 3
    assert all(name in named for name in (made[0].name, made[1].file, made[2].file))
    assert "recheck=true" in named
    words = [*small(tiny_model), "recheck=true", "--root", tmp_path, "--address", address]
    mended = run_job(*words)
    assert mended.returncode == 0, mended.stderr
    report = json.loads(mended.stdout)
    assert (report["digest"], report["made"]) == (expected, 3)
    assert {made[0].name, made[1].name, made[2].name} <= set(report["mended"])
    assert verify()[0] == 0
