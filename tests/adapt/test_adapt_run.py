import pytest

from factory.adapt.prepare import dry_run, prepare
from factory.adapters import read_adapters
from factory.records import claim_root
from factory.spec import SpecError
from factory.store import Store
from tests.adapt.adaptations import learn_all, tiny_adapt

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_failed_concept_is_named_others_go_on_and_the_same_command_mends(
    ray_cluster, tiny_base, tmp_path
):
    from factory.adapt.run import run

    (alone,) = learn_all(tiny_adapt(tiny_base, tmp_path), tmp_path / "alone")
    source = {"path": str(tmp_path / "train.parquet")}
    concepts = {"source": source, "classes": ["rows", "flat"], "num_images": 3}
    spec = tiny_adapt(tiny_base, tmp_path, concepts=concepts)
    root = str(tmp_path / "root")
    prepared, store = prepare(spec, root), Store(root)
    claim_root(store, prepared.root_spec)
    broken = f"checkpoints/flat-{prepared.concepts[1].fingerprint}.pt"
    store.put(broken, b"no checkpoint")
    store.put("adapters/rows-00000000/stray", b"of an earlier attempt")

    report = run(prepared)
    assert (report.made, report.missing) == (1, ["flat"])
    assert [failure.class_name for failure in report.failures] == ["flat"]
    assert report.adapters["rows"].digest == alone.digest
    assert report.swept == 1
    with pytest.raises(SpecError, match=r"no adapters yet of \['flat'\]"):
        read_adapters(root)

    store.delete([broken])
    again = run(prepare(spec, root))
    assert (again.made, again.skipped, again.missing, again.failures) == (1, 1, [], [])
    assert read_adapters(root)["rows"].digest == alone.digest
    assert store.exists("sheet.png")
    assert dry_run(prepare(spec, root)).done == ["rows", "flat"]
