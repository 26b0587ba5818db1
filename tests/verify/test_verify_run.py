"""The stage on a real Ray gives what it gives without."""

import pytest

from factory.spec import SpecError
from factory.verify.run import run
from tests.datasets import make_dataset
from tests.tampering import put_samples, read_samples, with_other_pixels, without_mark

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def facts(report):
    return report.model_dump(exclude={"seconds"})


@pytest.mark.parametrize("root", ["parquet"], indirect=True)
def test_stage_on_ray_finds_what_one_process_finds(ray_cluster, root, opened, verify):
    prepared = opened(root)
    for shard, change in ((0, without_mark), (2, with_other_pixels)):
        samples = read_samples(prepared, shard)
        put_samples(prepared, shard, [change(samples[0]), *samples[1:]])
    expected = facts(verify(root, replay=1))
    assert (expected["num_findings"], expected["replay_mismatches"]) == (2, 1)
    # An address that is there already: the light checks go to Ray too.
    report = run(opened(root, replay=1), address="auto")
    assert sorted(report.findings, key=lambda f: f.shard) == sorted(
        verify(root, replay=1).findings, key=lambda f: f.shard
    )
    assert {**facts(report), "findings": None} == {**expected, "findings": None}


def test_small_root_is_checked_without_ray(root, opened, verify):
    assert facts(run(opened(root))) == facts(verify(root))


def test_root_in_memory_is_checked_here_and_not_replayed(tiny_model, opened):
    make_dataset("memory://verify", tiny_model)
    assert run(opened("memory://verify")).ok
    with pytest.raises(SpecError, match="memory://"):
        run(opened("memory://verify", replay=0.1))
