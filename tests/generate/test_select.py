"""What a shard takes of its candidates: filters, found labels, reconstructions, quotas."""

from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from factory.generate.prepare import open_root, prepare
from factory.generate.select import Opinion, Selection, ShardUnfilled
from factory.generate.shard import MakeShard
from factory.images import decode_image, read_mark, resize
from factory.records import dataset_digest
from factory.resolve import resolve
from factory.shards.reader import read_shard
from factory.sources.check import check_shard
from factory.spec import GenerateSpec, SpecError, VerifySpec
from factory.verify.prepare import prepare as prepare_verify
from factory.vision.channels import to_channels
from factory.vision.labeller import load_labeller
from tests.conftest import save_tiny_model
from tests.datasets import make_dataset, small_spec
from tests.pools import save_labeller, save_unconditional
from tests.striped import CLASS_NAMES as STRIPES
from tests.striped import write_source


def samples(prepared):
    return [
        sample
        for record in prepared.inventory.records.values()
        for sample in read_shard(prepared.store.get(record.file), record.format)
    ]


def digest(prepared):
    return dataset_digest(prepared.inventory.records)


def deviation(sample):
    return to_channels(decode_image(sample.image)[None], 1).std(dtype=np.float64)


def assert_sound(root):
    """What `verify` says without drawing."""
    prepared = prepare_verify(VerifySpec(), str(root))
    assert not list(prepared.missing())
    for record in prepared.records.values():
        assert check_shard(prepared.dataset, record).findings == ()
        assert record.num_samples + sum(record.rejected.values()) == record.num_candidates


@pytest.fixture(scope="module")
def picky(tmp_path_factory, tiny_model):
    """A filter that takes about half of what the tiny model draws."""
    plain = samples(make_dataset(tmp_path_factory.mktemp("plain"), tiny_model))
    middle = float(np.median([deviation(sample) for sample in plain]))
    return {"kind": "contrast", "min_deviation": middle}


def test_filtered_counts_are_exact_and_every_candidate_is_accounted_for(
    tmp_path, tiny_model, picky
):
    made = make_dataset(tmp_path, tiny_model, filters=[picky])
    counts = Counter(sample.class_name for sample in samples(made))
    assert tuple(counts[name] for name in made.resolved.plan.class_names) == (14, 13, 13)
    rejected = sum((Counter(r.rejected) for r in made.inventory.records.values()), Counter())
    assert set(rejected) == {"contrast"}
    assert rejected.total() > 5
    assert_sound(tmp_path)


def test_a_filtered_dataset_that_grows_keeps_every_image(tmp_path, tiny_model, picky):
    few = samples(make_dataset(tmp_path / "a", tiny_model, filters=[picky], num_images=13))
    grown = make_dataset(tmp_path / "a", tiny_model, filters=[picky])
    at_once = make_dataset(tmp_path / "b", tiny_model, filters=[picky])
    assert digest(grown) == digest(at_once)
    after = {sample.key: sample for sample in samples(grown)}
    assert all(after[sample.key] == sample for sample in few)


def test_a_class_that_cannot_be_filled_is_named_with_its_yield(tmp_path, tiny_model):
    blank = {"kind": "contrast", "min_deviation": 127.0}
    spec = small_spec(tiny_model, filters=[blank], max_candidates_per_image=3)
    opened, _ = open_root(prepare(spec, str(tmp_path)))
    with pytest.raises(ShardUnfilled, match=r"cat 0 of 14.*42 candidates, 0\.0%.*42 contrast"):
        MakeShard(opened.resolved, str(tmp_path))(0)
    assert not take_records(tmp_path)


def take_records(root):
    return list(root.glob("records/*/*.json"))


class Repeats:
    """A sampler that draws each image of a batch twice."""

    def __init__(self, resolved):
        from factory.diffusion.draw import load_sampler

        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device

    def __call__(self, batch):
        drawn = self._sampler(batch)
        return drawn._replace(images=drawn.images[np.arange(len(batch)) // 2 * 2])


@pytest.mark.parametrize("fields", [{}, {"max_distance": 2}])
def test_duplicates_are_drawn_again(tmp_path, tiny_model, fields):
    spec = small_spec(tiny_model, filters=[{"kind": "duplicate", **fields}])
    opened, _ = open_root(prepare(spec, str(tmp_path)))
    record = MakeShard(opened.resolved, str(tmp_path), Repeats)(0)
    made = read_shard(opened.store.get(record.file), record.format)
    assert len({sample.provenance["pixel_sha256"] for sample in made}) == len(made) == 14
    assert record.rejected["duplicate"] >= 13


def taken_of_repeats(resolved, seed, num_images):
    """Candidates that shard 0 takes, and why it rejects others, where few images come again and
    again."""
    selection, number, taken = Selection(resolved, 0), None, []
    while not selection.is_full:
        number = selection.next_batch(number)
        batch = resolved.plan.batch(0, number)
        images = np.empty((len(batch), 8, 8, 3), np.uint8)
        opinions = []
        for place, candidate in enumerate(batch):
            generator = np.random.default_rng((seed, candidate.index))
            images[place] = generator.integers(num_images)
            label = int(generator.integers(3)) if candidate.label is None else candidate.label
            opinions.append(Opinion(label, None, None))
        taken += [batch[place].index for place in selection.take(batch, images, opinions)]
    return taken, selection.rejected


def assert_growth_keeps_images(few, many, *, num_images):
    rejected = Counter()
    for seed in range(30):
        before, _ = taken_of_repeats(few, seed, num_images)
        after, reasons = taken_of_repeats(many, seed, num_images)
        assert set(before) < set(after), seed
        rejected += reasons
    assert min(rejected["duplicate"], rejected["not needed"]) > 30


def test_images_are_resized_before_filters_look(tmp_path, tiny_model):
    output = {"image_size": 5, "resample": "box"}
    plain = samples(make_dataset(tmp_path / "plain", tiny_model, num_images=6))
    made = samples(make_dataset(tmp_path / "small", tiny_model, num_images=6, output=output))
    for before, after in zip(plain, made, strict=True):
        small = resize(decode_image(before.image), 5, resample="box")
        assert np.array_equal(decode_image(after.image), small)
        assert (after.provenance["width"], after.provenance["height"]) == (5, 5)


# Labels that are found


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory):
    return save_unconditional(tmp_path_factory.mktemp("models") / "unconditional")


@pytest.fixture(scope="module")
def labeller(tmp_path_factory, unconditional):
    return save_labeller(tmp_path_factory.mktemp("labeller"), unconditional)


def test_quota_fills_every_class_from_one_pool(tmp_path, unconditional, labeller):
    fields = {"labels": "quota", "labeller": {"model": str(labeller)}, "num_images": 40}
    made = make_dataset(tmp_path, unconditional, **fields)
    found = samples(made)
    assert Counter(s.class_name for s in found) == {"cat": 14, "dog": 13, "T-shirt/top": 13}
    images = np.stack([decode_image(sample.image) for sample in found])
    seen = load_labeller(labeller, torch.device("cpu"))(images)
    assert [s.label for s in found] == seen.labels.tolist()
    assert [s.provenance["confidence"] for s in found] == seen.confidences.tolist()
    assert_sound(tmp_path)


def test_quota_that_grows_keeps_every_image(tmp_path, unconditional, labeller):
    fields = {"labels": "quota", "labeller": {"model": str(labeller)}}
    few = samples(make_dataset(tmp_path / "a", unconditional, images_per_class=3, **fields))
    many = {"images_per_class": {"cat": 9, "dog": 7, "T-shirt/top": 4}, **fields}
    grown = make_dataset(tmp_path / "a", unconditional, **many)
    assert digest(grown) == digest(make_dataset(tmp_path / "b", unconditional, **many))
    after = {sample.key: sample for sample in samples(grown)}
    assert all(after[sample.key] == sample for sample in few)


def test_quota_that_grows_keeps_every_image_though_candidates_repeat(unconditional, labeller):
    fields = {"labels": "quota", "labeller": {"model": str(labeller)}}
    fields |= {"filters": [{"kind": "duplicate"}], "max_candidates_per_image": 100}
    few, many = (resolve(small_spec(unconditional, images_per_class=n, **fields)) for n in (1, 5))
    assert_growth_keeps_images(few, many, num_images=30)


def test_as_found_keeps_the_total_and_whatever_comes(tmp_path, unconditional, labeller):
    fields = {"labels": "as_found", "labeller": {"model": str(labeller)}}
    few = samples(make_dataset(tmp_path, unconditional, num_images=21, **fields))
    made = make_dataset(tmp_path, unconditional, **fields)
    assert len(few) == 21
    assert len(samples(made)) == 40
    assert sum(record.num_candidates for record in made.inventory.records.values()) == 40
    assert few[:16] == samples(made)[:16]
    assert_sound(tmp_path)


def test_candidates_below_the_confidence_are_rejected(tmp_path, unconditional, labeller):
    plain = {"labels": "as_found", "labeller": {"model": str(labeller)}}
    every = samples(make_dataset(tmp_path / "a", unconditional, num_images=12, **plain))
    least = float(np.median([sample.provenance["confidence"] for sample in every]))
    strict = {**plain, "labeller": {"model": str(labeller), "min_confidence": least}}
    made = make_dataset(tmp_path / "b", unconditional, num_images=12, **strict)
    assert min(sample.provenance["confidence"] for sample in samples(made)) >= least
    assert made.inventory.records[0].rejected["confidence"] > 0


def test_agreement_filter_rejects_what_is_seen_as_another_class(tmp_path, tiny_model, labeller):
    agrees = {"kind": "agreement", "model": str(labeller)}
    fields = {"images_per_class": {"cat": 4}, "max_candidates_per_image": 100}
    made = make_dataset(tmp_path, tiny_model, filters=[agrees], **fields)
    images = np.stack([decode_image(sample.image) for sample in samples(made)])
    assert set(load_labeller(labeller, torch.device("cpu"))(images).labels.tolist()) == {0}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "unconditional; give labels=as_found or labels=quota, and labeller"),
        ({"labels": "quota", "shard_size": 2, "labeller": "it"}, "shard_size: is 2.* 3 classes"),
        ({"labels": "quota", "class_names": ["cat", "cow"], "labeller": "it"}, "'cow'.*labeller"),
        ({"labels": "as_found", "labeller": "nowhere"}, r"labeller\.model: nowhere is no folder"),
        ({"labels": "as_found", "labeller": "a/b/c"}, r"a/b/c is no folder, and no id .*; give a "),
        (
            {"labels": "quota", "labeller": "it", "generator": {"guidance_scale": 2.0}},
            "trained without labels and takes no guidance",
        ),
    ],
)
def test_what_cannot_be_labelled_is_refused(unconditional, labeller, fields, named):
    if "labeller" in fields:
        model = str(labeller) if fields["labeller"] == "it" else fields["labeller"]
        fields = {**fields, "labeller": {"model": model}}
    with pytest.raises(SpecError, match=named):
        resolve(small_spec(unconditional, **fields))


def test_a_labeller_of_a_conditional_model_is_refused(tiny_model, labeller):
    with pytest.raises(SpecError, match="class-conditional; leave labels and labeller out"):
        resolve(small_spec(tiny_model, labels="quota", labeller={"model": str(labeller)}))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"labels": "quota"}, r"no labeller says them; give labeller\.model=FOLDER"),
        ({"labeller": {"model": "x"}}, "labels is given; give labels=as_found or labels=quota"),
    ],
)
def test_labels_and_labeller_are_given_together(fields, named):
    with pytest.raises(ValidationError, match=named):
        GenerateSpec.model_validate(fields)


# Reconstructions


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return write_source(folder / "real.parquet", num_images=27)


@pytest.fixture(scope="module")
def striped_model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "stripes", class_names=STRIPES)


def reconstruct(root, model, real, *, passes=1, t_re=2, **fields):
    start = {"source": {"path": real, "channels": 3}, "passes": passes, "t_re": t_re}
    return make_dataset(root, model, num_images=None, reconstruct=start, **fields)


def test_each_source_image_is_made_once_a_pass(tmp_path, striped_model, real):
    made = samples(reconstruct(tmp_path, striped_model, real, passes=2))
    origins = Counter(sample.provenance["source_image"] for sample in made)
    assert len(origins) == 27
    assert set(origins.values()) == {2}
    assert {read_mark(sample.image) for sample in made} == {"compositeWithTrainedAlgorithmicMedia"}
    assert_sound(tmp_path)


def test_at_zero_the_source_comes_back_unmarked(tmp_path, striped_model, real):
    made = samples(reconstruct(tmp_path, striped_model, real, t_re=0))
    assert not any(sample.provenance["is_synthetic"] for sample in made)
    assert {read_mark(sample.image) for sample in made} == {None}
    assert_sound(tmp_path)


def test_more_passes_keep_every_image(tmp_path, striped_model, real):
    once = samples(reconstruct(tmp_path, striped_model, real))
    made = reconstruct(tmp_path, striped_model, real, passes=3)
    thrice = {sample.key: sample for sample in samples(made)}
    assert all(thrice[sample.key] == sample for sample in once)
    assert len(thrice) == 81


def test_more_passes_keep_every_image_though_candidates_repeat(striped_model, real):
    fields = {"filters": [{"kind": "duplicate"}], "max_candidates_per_image": 100}
    start = {"source": {"path": real, "channels": 3}, "t_re": 2}
    few, many = (
        resolve(
            small_spec(striped_model, num_images=None, reconstruct={**start, "passes": n}, **fields)
        )
        for n in (1, 2)
    )
    assert_growth_keeps_images(few, many, num_images=60)


def test_a_rejected_reconstruction_draws_new_noise_for_the_same_image(
    tmp_path, striped_model, real
):
    plain = samples(reconstruct(tmp_path / "plain", striped_model, real, t_re=3))
    middle = float(np.median([deviation(sample) for sample in plain]))
    picky = {"kind": "contrast", "min_deviation": middle}
    fields = {"filters": [picky], "max_candidates_per_image": 100}
    made = reconstruct(tmp_path / "picky", striped_model, real, t_re=3, **fields)
    found = samples(made)
    assert len({sample.provenance["source_image"] for sample in found}) == len(found) == 27
    assert min(deviation(sample) for sample in found) >= middle
    kept = {s.key for s in plain if deviation(s) >= middle}
    assert kept <= {sample.key for sample in found}
    assert_sound(tmp_path / "picky")


@pytest.mark.parametrize(
    ("start", "generator", "named"),
    [
        ({"t_re": 4}, {}, "t_re: is 4; give an index from 0 .*to 3"),
        ({"t_re": 1}, {"scheduler": "edm_euler"}, "heun or euler"),
        ({"t_re": 1, "channels": 1}, {}, "8x8 grey.*8x8 RGB.*channels"),
        ({"strength": 0.5}, {}, "give t_re to edm"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused(striped_model, real, start, generator, named):
    start = dict(start)
    source = {"path": real, "channels": start.pop("channels", 3)}
    with pytest.raises((SpecError, ValueError), match=named):
        resolve(
            small_spec(
                striped_model,
                num_images=None,
                generator=generator,
                reconstruct={"source": source, **start},
            )
        )
