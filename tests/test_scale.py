"""Very large requests and very many finished shards: time and memory of the process that looks.

`pytest -m slow tests/test_scale.py --durations=0` measures what benchmarks/README.md reports.
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from factory.generate.prepare import Prepared, prepare
from factory.records import Device, ShardRecord, claim_root, shard_name
from tests.datasets import small_spec

JOB = Path(__file__).parents[1] / "jobs" / "generate.py"
GIB = 2**30
# A child counts the memory of the process that forks it: measure from an interpreter that holds
# nothing, not from this one, which has loaded torch.
MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
job = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
took = [seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
print(json.dumps([job.returncode, job.stdout, job.stderr, *took]))
"""


@dataclass(frozen=True)
class Look:
    """What `--dry-run` printed, and what it took."""

    report: dict
    seconds: float
    cpu_seconds: float
    """Without the waiting for other processes that a busy machine adds."""
    peak_bytes: int


def look(model, root, *overrides) -> Look:
    words = [f"generator.model={model}", *overrides, "--root", root, "--dry-run"]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, JOB, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    code, stdout, stderr, *took = json.loads(measured.stdout)
    assert code == 0, stderr
    return Look(json.loads(stdout), *took)


def fill(model, root, num_shards) -> Prepared:
    """A root whose shards of one image are recorded, with files that have the recorded size."""
    spec = small_spec(model, num_images=num_shards, shard_size=1, batch_size=1)
    prepared = prepare(spec, str(root))
    claim_root(prepared.store, prepared.resolved.root_spec)
    files = {}
    for shard in prepared.resolved.plan.shards():
        record = synthetic_record(prepared.resolved.fingerprint, shard)
        files[record.file] = b"x"
        files[record.name] = record.model_dump_json(indent=1).encode()
    # Around the store, which would sync every file to the disk.
    filesystem, base = fsspec.core.url_to_fs(str(root))
    for folder in {name.rpartition("/")[0] for name in files}:
        filesystem.makedirs(f"{base}/{folder}", exist_ok=True)
    filesystem.pipe({f"{base}/{name}": content for name, content in files.items()})
    return prepared


def synthetic_record(fingerprint, shard) -> ShardRecord:
    digest = hashlib.sha256(str(shard).encode()).hexdigest()
    packages = ("factory", "torch", "diffusers", "numpy", "pillow", "pyarrow")
    return ShardRecord(
        fingerprint=fingerprint,
        shard=shard,
        file=shard_name(shard, digest, "parquet"),
        sha256=digest,
        num_bytes=1,
        num_samples=1,
        class_counts={"cat": 1},
        num_candidates=1,
        rejected={},
        device=Device(kind="cpu AVX512", versions=dict.fromkeys(packages, "1.0.0")),
        seconds={"sample": 20.0, "encode": 0.5, "commit": 0.1},
    )


def look_again(model, root, num_shards) -> Look:
    """Ask for one image more than `fill` recorded."""
    spec = small_spec(model, num_images=num_shards + 1, shard_size=1, batch_size=1)
    generator = f"generator={json.dumps(spec.generator.model_dump(mode='json'))}"
    sizes = [f"{name}={getattr(spec, name)}" for name in ("shard_size", "batch_size", "threads")]
    return look(model, root, generator, *sizes, f"num_images={spec.num_images}")


@pytest.mark.parametrize("layout", ["interleaved", "by_class"])
def test_a_dry_run_of_a_billion_images_takes_seconds_and_little_memory(
    tmp_path, tiny_model, layout
):
    asked = look(tiny_model, tmp_path / "root", "num_images=1000000000", f"layout={layout}")
    counts = {"cat": 333_333_334, "dog": 333_333_333, "T-shirt/top": 333_333_333}
    assert asked.report["class_counts"] == counts
    # By class, each of the three ends in a short shard of its own.
    num_shards = {"interleaved": 4_000_000, "by_class": 4_000_002}[layout]
    assert (asked.report["num_shards"], asked.report["pending"]) == (num_shards, num_shards)
    assert asked.cpu_seconds < 10
    assert asked.peak_bytes < GIB
    assert not (tmp_path / "root").exists()


def test_resume_finds_what_is_missing_among_thousands_of_records(tmp_path, tiny_model):
    before = fill(tiny_model, tmp_path, 3_000)
    names = sorted(before.store.sizes("records"))
    gone, wrong = names[17], names[1_234]
    (tmp_path / gone).unlink()
    (tmp_path / wrong).write_bytes(b"half a rec")
    now = prepare(before.resolved.spec, str(tmp_path))
    assert list(now.pending()) == [17, 1_234]
    assert list(now.inventory.broken) == [wrong]
    assert len(now.inventory.strays) == 2


@pytest.fixture(scope="module")
def local_records(tmp_path_factory, tiny_model):
    root = tmp_path_factory.mktemp("many")
    fill(tiny_model, root, 100_000)
    return root


@pytest.fixture
def s3_records(s3_bucket, tiny_model):
    root = f"{s3_bucket}/many"
    fill(tiny_model, root, 10_000)
    return root


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_resume_over_100_000_local_records_takes_less_than_a_minute(local_records, tiny_model):
    seen = look_again(tiny_model, local_records, 100_000)
    assert (seen.report["done"], seen.report["pending"]) == (100_000, 1)
    assert seen.seconds < 60
    assert seen.peak_bytes < GIB


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_resume_over_10_000_records_on_s3_takes_less_than_a_minute(s3_records, tiny_model):
    seen = look_again(tiny_model, s3_records, 10_000)
    assert (seen.report["done"], seen.report["pending"]) == (10_000, 1)
    assert seen.seconds < 60
    assert seen.peak_bytes < GIB
