"""Arms hold exactly what their mix says, and what cannot be compared is refused before work."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from factory.classify.prepare import dry_run, prepare
from factory.spec import EvaluateSpec, SpecError
from tests.striped import write_source
from tests.vision.checkpoints import save_tiny_resnet

HALF = {"kind": "replace", "fraction": 0.5}
DOUBLE = {"kind": "multiplier", "multiplier": 2}


def arms_of(spec, tmp_path):
    return prepare(spec, str(tmp_path / "root")).arms


def test_counts_are_those_of_the_mix(comparison, tmp_path):
    spec = comparison(arms={"real": {}, "half": {"mix": HALF}, "all": {"mix": DOUBLE}})
    arms = arms_of(spec, tmp_path)
    assert set(arms["real"].mixed.real_counts.values()) == {40}
    assert set(arms["half"].mixed.real_counts.values()) == {20}
    assert set(arms["half"].mixed.synthetic_counts.values()) == {20}
    assert set(arms["all"].mixed.synthetic_counts.values()) == {80}


def test_steps_follow_epochs_unless_matched(comparison, tmp_path):
    arms = {
        "real": {},
        "all": {"mix": DOUBLE},
        "all again": {"mix": DOUBLE, "match": "steps"},
        "paired": {"mix": DOUBLE, "batches": "paired"},
        "paired again": {"mix": DOUBLE, "batches": "paired", "match": "images"},
    }
    steps = {name: arm.num_steps for name, arm in arms_of(comparison(arms=arms), tmp_path).items()}
    real = round(3 * 120 / 16)
    assert steps == {
        "real": real,
        "all": round(3 * 360 / 16),
        "all again": real,
        "paired": round(3 * 240 / 16),
        "paired again": real // 2,
    }


def test_controls_are_added_where_lengths_differ(comparison, tmp_path):
    arms = {"real": {}, "half": {"mix": HALF}, "all": {"mix": DOUBLE}}
    made = arms_of(comparison(arms=arms, controls=["steps", "images"]), tmp_path)
    # With joint batches as many steps are as many images: one control does for both.
    assert list(made) == ["real", "half", "all", "all, same steps"]
    assert made["all, same steps"].num_steps == made["real"].num_steps
    assert made["all, same steps"].fingerprint != made["all"].fingerprint


@pytest.mark.parametrize("mix", [HALF, DOUBLE])
def test_validation_of_a_mix_takes_its_share_of_each_class_and_origin(comparison, tmp_path, mix):
    spec = comparison(
        arms={"arm": {"mix": mix}}, training={"validation": {"fraction": 0.25, "of": "mix"}}
    )
    prepared = prepare(spec, str(tmp_path / "root"))
    arm, sources = prepared.arms["arm"], prepared.sources
    for chosen, held, everything, source in [
        (arm.train.real, arm.validation.real, arm.mixed.real, sources.real),
        (
            arm.train.synthetic,
            arm.validation.synthetic,
            arm.mixed.synthetic,
            sources.synthetic["drawn"],
        ),
    ]:
        assert sorted([*chosen, *held]) == sorted(everything)
        total = np.bincount(source.labels[everything])
        assert (np.bincount(source.labels[held]) == total // 4).all()


def test_validation_of_the_real_source_is_one_for_all_arms(comparison, tmp_path):
    spec = comparison(
        arms={"real": {}, "half": {"mix": HALF}},
        training={"validation": {"fraction": 0.1, "of": "real"}},
    )
    prepared = prepare(spec, str(tmp_path / "root"))
    assert len(prepared.sources.real) == 108
    parts = [arm.validation_part(prepared.sources) for arm in prepared.arms.values()]
    assert (parts[0].images == parts[1].images).all()
    assert len(parts[0].labels) == 12


def test_repeated_image_is_held_out_with_all_its_copies(comparison, tmp_path):
    spec = comparison(
        arms={"arm": {"mix": {"kind": "oversample", "images_per_class": 90}}},
        training={"validation": {"fraction": 0.25, "of": "mix"}},
    )
    arm = arms_of(spec, tmp_path)["arm"]
    assert not set(arm.train.real) & set(arm.validation.real)


def test_fingerprint_depends_on_an_arms_own_images_alone(comparison, tmp_path):
    few = comparison(arms={"real": {}, "half": {"mix": HALF}})
    more = comparison(arms={"real": {}, "half": {"mix": HALF}, "all": {"mix": DOUBLE}}, num_seeds=5)
    other = comparison(arms={"real": {}, "half": {"mix": HALF}}, seed=1)
    first, second, third = (arms_of(spec, tmp_path) for spec in (few, more, other))
    assert first["half"].fingerprint == second["half"].fingerprint
    assert first["half"].fingerprint != first["real"].fingerprint
    assert first["half"].fingerprint != third["half"].fingerprint


def test_moving_a_source_changes_no_fingerprint(comparison, tmp_path, striped_files):
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(Path(striped_files["real"]).read_bytes())
    before = arms_of(comparison(arms={"real": {}}), tmp_path)
    after = arms_of(comparison(arms={"real": {}}, real={"path": str(moved)}), tmp_path)
    assert before["real"].fingerprint == after["real"].fingerprint


def test_order_of_class_names_may_differ_and_names_decide(comparison, tmp_path):
    turned = write_source(tmp_path / "turned.parquet", names=("columns", "flat", "rows"), seed=1)
    prepared = prepare(comparison(arms={"real": {}}, test={"path": turned}), str(tmp_path / "root"))
    assert prepared.sources.test.class_names == ("flat", "rows", "columns")
    # Label 0 of the file is "columns", which the real source counts as 2.
    assert prepared.sources.test.labels[0] == 2


def test_weights_are_known_by_their_content(comparison, tmp_path):
    folder = tmp_path / "weights"
    save_tiny_resnet(folder)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)

    def fingerprint(weights):
        spec = comparison(
            arms={"real": {}},
            classifier={"network": "pretrained", "weights": str(weights), "regime": "frozen"},
        )
        return arms_of(spec, tmp_path)["real"].fingerprint

    before = fingerprint(folder)
    assert fingerprint(moved) == before
    (moved / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert fingerprint(moved) != before


def test_weights_that_cannot_be_had_are_refused(comparison, tmp_path):
    classifier = {"network": "pretrained", "weights": "no/such", "regime": "frozen"}
    message = refused(comparison(arms={"real": {}}, classifier=classifier), tmp_path)
    assert "no/such" in message
    assert "folder" in message


def refused(spec, tmp_path):
    with pytest.raises(SpecError) as caught:
        prepare(spec, str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "mix",
    [{"kind": "multiplier", "multiplier": 1, "with_real": False}, {"kind": "fill"}],
)
def test_paired_batches_with_one_side_empty_are_refused(comparison, tmp_path, mix):
    message = refused(comparison(arms={"arm": {"mix": mix, "batches": "paired"}}), tmp_path)
    assert "arms.arm" in message
    assert "joint" in message


@pytest.mark.parametrize(("fraction", "of"), [(0.01, "mix"), (0.99, "mix"), (0.99, "real")])
def test_validation_that_leaves_nothing_is_refused(comparison, tmp_path, fraction, of):
    spec = comparison(arms={"real": {}}, training={"validation": {"fraction": fraction, "of": of}})
    assert "validation" in refused(spec, tmp_path)


def test_other_classes_are_refused_by_name(comparison, tmp_path):
    other = write_source(tmp_path / "other.parquet", names=("flat", "rows", "dots"))
    message = refused(comparison(arms={"real": {}}, test={"path": other}), tmp_path)
    assert "dots" in message
    assert "columns" in message


def test_other_sizes_are_refused_with_both(comparison, tmp_path):
    large = write_source(tmp_path / "large.parquet", size=12)
    message = refused(comparison(arms={"real": {}}, test={"path": large}), tmp_path)
    assert "12x12" in message
    assert "8x8" in message
    assert "image_size" in message


def test_too_few_synthetic_images_are_refused_with_the_command(comparison, tmp_path, striped_files):
    much = {"mix": {"kind": "multiplier", "multiplier": 3}}
    message = refused(comparison(arms={"real": {}, "much": much}), tmp_path)
    assert "arms.much" in message
    assert "40" in message
    assert "images_per_class=120 " in message
    assert striped_files["synthetic"] in message


def test_root_of_a_dataset_is_refused(comparison, tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(SpecError, match="--root of their own"):
        prepare(comparison(arms={"real": {}}), str(tmp_path))


def test_root_of_other_results_is_refused(comparison, tmp_path):
    (tmp_path / "asked.json").write_text(EvaluateSpec().model_dump_json())
    with pytest.raises(SpecError, match="results of another job"):
        prepare(comparison(arms={"real": {}}), str(tmp_path))


def test_dry_run_counts_what_is_left(comparison, tmp_path):
    spec = comparison(arms={"real": {}, "half": {"mix": HALF}}, num_seeds=3)
    shown = dry_run(prepare(spec, str(tmp_path / "root")))
    assert (shown.num_trainings, shown.num_pending) == (6, 6)
    assert shown.arms["half"].synthetic_counts == {"flat": 20, "rows": 20, "columns": 20}
    assert shown.arms["half"].images_seen == shown.arms["half"].num_steps * 16
    assert not (tmp_path / "root").exists()
