"""Making shards in one process: determinism, growth, commits, refusals."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from factory.diffusion.draw import load_sampler
from factory.generate.pictures import save_contact_sheet
from factory.generate.prepare import OtherRoot, estimate, open_root, prepare, so_far
from factory.generate.shard import MakeShard
from factory.images import decode_image
from factory.records import (
    Device,
    OtherDevice,
    ShardRecord,
    dataset_digest,
    record_name,
    shard_name,
    sweep,
    take_inventory,
)
from factory.shards.reader import read_shard
from factory.spec import SpecError
from factory.store import Store
from tests.conftest import save_tiny_model
from tests.datasets import make_dataset, small_spec

TABLE = {"cat": 20, "dog": 3, "T-shirt/top": 17}


def digest(prepared):
    return dataset_digest(prepared.inventory.records)


def samples(prepared):
    return [
        sample
        for record in prepared.inventory.records.values()
        for sample in read_shard(prepared.store.get(record.file), record.format)
    ]


def swept(inventory, prepared):
    """What a driver of that spec sweeps that has seen that much."""
    return sweep(prepared.store, inventory, most=prepared.resolved.plan.largest_quota)


def assert_only_counted_files(store, inventory):
    counted = {n for r in inventory.records.values() for n in (r.name, r.file)}
    assert set(store.sizes()) == counted | {"spec.json", "device.json"}


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_same_spec_gives_same_bytes_wherever_model_and_root_lie(tmp_path, tiny_model, form):
    one = make_dataset(tmp_path / "a", tiny_model, output={"format": form})
    moved = shutil.copytree(tiny_model, tmp_path / "elsewhere" / "renamed")
    two = make_dataset(tmp_path / "b", moved, output={"format": form})
    assert digest(one) == digest(two)
    assert one.num_pending == two.num_pending == 0


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ({"num_images": 21}, {"num_images": 40}),
        ({"images_per_class": 5}, {"images_per_class": 15}),
        ({"images_per_class": {"cat": 4, "dog": 3}}, {"images_per_class": TABLE}),
    ],
)
def test_growing_gives_the_digest_of_asking_for_all_at_once(tmp_path, tiny_model, few, many):
    small = make_dataset(tmp_path / "grown", tiny_model, **few)
    before = {s.key: s for s in samples(small)}
    grown = make_dataset(tmp_path / "grown", tiny_model, **many)
    at_once = make_dataset(tmp_path / "at_once", tiny_model, **many)
    assert digest(grown) == digest(at_once)
    after = {s.key: s for s in samples(grown)}
    assert all(after[key] == sample for key, sample in before.items())


def test_asking_for_fewer_images_finds_all_of_them_there(tmp_path, tiny_model):
    full = make_dataset(tmp_path, tiny_model)
    fewer = prepare(small_spec(tiny_model, num_images=13), str(tmp_path))
    assert fewer.num_pending == 0
    assert digest(fewer) == digest(full)


@pytest.mark.parametrize("fields", [{}, {"images_per_class": TABLE}])
def test_counts_are_exact(tmp_path, tiny_model, fields):
    made = make_dataset(tmp_path, tiny_model, **fields)
    names = [sample.class_name for sample in samples(made)]
    plan = made.resolved.plan
    assert [names.count(n) for n in plan.class_names] == list(plan.counts)
    assert sum(r.num_samples for r in made.inventory.records.values()) == 40


def test_class_names_in_another_order_give_the_same_images_of_a_class(tmp_path, tiny_model):
    kwargs = {"images_per_class": {"cat": 4, "dog": 4}, "batch_size": 4}
    one = make_dataset(tmp_path / "a", tiny_model, class_names=("cat", "dog"), **kwargs)
    two = make_dataset(tmp_path / "b", tiny_model, class_names=("dog", "cat"), **kwargs)
    # Label and shard number follow the order, so shard 0 of one is not shard 0 of the other.
    assert one.resolved.fingerprint != two.resolved.fingerprint
    assert {s.class_name for s in samples(one)} == {s.class_name for s in samples(two)}


def test_an_image_does_not_depend_on_how_many_are_asked_for(tmp_path, tiny_model):
    one = make_dataset(tmp_path / "a", tiny_model, num_images=1)
    all_ = make_dataset(tmp_path / "b", tiny_model)
    assert samples(one) == samples(all_)[:1]


def test_a_late_attempt_with_other_bytes_changes_nothing(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    before = made.store.sizes()

    class Zombie:
        """An old attempt on a device with other last bits."""

        def __init__(self, sampler):
            self.device = sampler.device
            self._sampler = sampler

        def __call__(self, batch):
            drawn = self._sampler(batch)
            return drawn._replace(images=255 - drawn.images)

    late = MakeShard(made.resolved, str(tmp_path), lambda r: Zombie(load_sampler(r)))
    # The record appears between the zombie's first look and its commit.
    record = made.inventory.records[1]
    kept = made.store.get(record.name)
    made.store.delete([record.name])
    put = late._store.put

    def put_late(name, data):
        put(name, data)
        made.store.create(record.name, kept)

    late._store.put = put_late
    assert late(1) == record
    assert made.store.sizes() == before
    assert digest(prepare(made.resolved.spec, str(tmp_path))) == digest(made)


def test_a_recorded_shard_costs_no_model(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)

    def load(_):
        raise AssertionError("the model was loaded")

    assert MakeShard(made.resolved, str(tmp_path), load)(0) == made.inventory.records[0]


def test_a_shard_without_record_does_not_count_and_stays_for_its_driver(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model, num_images=16)
    stray = shard_name(7, "ab" * 32, "parquet")
    made.store.put(stray, b"half of a shard on its way")
    now = take_inventory(made.store, made.resolved.fingerprint)
    assert stray in now.strays
    assert dataset_digest(now.records) == digest(made)
    assert swept(now, made) == []
    an_hour_ago = time.time() - 3_601
    os.utime(tmp_path / stray, (an_hour_ago, an_hour_ago))
    assert swept(now, made) == [stray]


def test_superseded_files_and_unfinished_ones_are_swept(tmp_path, tiny_model):
    make_dataset(tmp_path, tiny_model, num_images=21)
    grown = make_dataset(tmp_path, tiny_model)
    grown.store.put(".incoming/half", b"killed while writing")
    grown.store.put(shard_name(0, "cd" * 32, "parquet"), b"an attempt that lost")
    now = take_inventory(grown.store, grown.resolved.fingerprint)
    assert len(swept(now, grown)) == 4
    assert_only_counted_files(grown.store, now)


def test_two_drivers_at_once_lose_and_double_nothing(s3_bucket, tmp_path, tiny_model):
    one_at_a_time = threading.Lock()

    def load(resolved):
        # Two processes may; in one, loading changes how torch makes any network.
        with one_at_a_time:
            return load_sampler(resolved)

    start = threading.Barrier(2)
    for root in (tmp_path / "root", f"{s3_bucket}/{tmp_path.name}"):
        spec = small_spec(tiny_model)

        def drive(root=root, spec=spec):
            prepared = prepare(spec, str(root))
            start.wait()
            opened, _ = open_root(prepared)
            make = MakeShard(opened.resolved, str(root), load)
            for shard in opened.pending():
                make(shard)

        other = threading.Thread(target=drive)
        other.start()
        drive()
        other.join()
        now = prepare(spec, str(root))
        assert sum(record.num_samples for record in now.inventory.records.values()) == 40
        assert digest(now) == digest(make_dataset(tmp_path / "alone", tiny_model))
        assert_only_counted_files(now.store, now.inventory)


# What other drivers do meanwhile


class Busy(Store):
    """A store where something happens within each listing, as between two pages of one on S3."""

    def __init__(self, url, meanwhile):
        super().__init__(url)
        self._meanwhile = meanwhile

    def _list(self, folder):
        first = super()._list(folder or "data")
        self._meanwhile()
        if folder:
            return first
        rest = super()._list("").items()
        return first | {name: entry for name, entry in rest if not name.startswith("data/")}


def test_a_shard_that_is_committed_while_one_looks_is_not_broken(tmp_path, tiny_model):
    opened = opened_root(tmp_path, tiny_model)
    make, pending = MakeShard(opened.resolved, str(tmp_path)), list(opened.pending())
    busy = Busy(str(tmp_path), lambda: pending and make(pending.pop()))
    while pending:
        seen = take_inventory(busy, opened.resolved.fingerprint)
        assert seen.broken == {}


def test_a_shard_that_grows_while_one_looks_is_there(tmp_path, tiny_model):
    short = make_dataset(tmp_path, tiny_model, num_images=21)

    def grow():
        grown = make_dataset(tmp_path, tiny_model, num_images=32)
        swept(grown.inventory, grown)

    seen = take_inventory(Busy(str(tmp_path), grow), short.resolved.fingerprint)
    assert seen.broken == {}
    assert list(seen.records) == [0, 1]


@pytest.mark.parametrize("recheck", [False, True])
def test_what_another_driver_mended_is_not_deleted(tmp_path, tiny_model, recheck):
    made = make_dataset(tmp_path, tiny_model)
    record = made.inventory.records[1]
    made.store.put(record.file, bytes(record.num_bytes if recheck else 1))
    spec = small_spec(tiny_model, recheck=recheck)
    hurt = prepare(spec, str(tmp_path))
    make_dataset(tmp_path, tiny_model, recheck=recheck)
    opened, mended = open_root(hurt)
    assert mended == {}
    assert opened.num_pending == 0
    assert digest(opened) == digest(made)


def test_a_shard_that_grows_survives_the_sweep_of_another_driver(tmp_path, tiny_model):
    root = str(tmp_path / "root")
    short = make_dataset(root, tiny_model, num_images=21)
    opened, _ = open_root(prepare(small_spec(tiny_model), root))
    make = MakeShard(opened.resolved, root)
    create = make._store.create
    seen = []

    def create_late(name, data):
        # Its file is there, its record is not; the other driver looks now, and sweeps later.
        seen.append(take_inventory(short.store, short.resolved.fingerprint))
        return create(name, data)

    make._store.create = create_late
    for shard in opened.pending():
        make(shard)
        swept(seen.pop(), short)
    grown = prepare(opened.resolved.spec, root)
    assert grown.inventory.broken == {}
    assert digest(grown) == digest(make_dataset(tmp_path / "at_once", tiny_model))
    swept(grown.inventory, grown)
    assert_only_counted_files(grown.store, grown.inventory)


# Kinds of devices


def on(kind, meanwhile=lambda: None):
    """Loads the sampler as if on a device of that kind; `meanwhile` happens before it draws."""

    class Sampler:
        device = Device(kind=kind, versions={})

        def __init__(self, resolved):
            self._sampler = load_sampler(resolved)

        def __call__(self, batch):
            meanwhile()
            return self._sampler(batch)

    return Sampler


def opened_root(root, model, **resources):
    opened, _ = open_root(prepare(small_spec(model, resources=resources), str(root)))
    return opened


def test_another_kind_of_device_is_refused_before_it_draws(tmp_path, tiny_model):
    root, resolved = str(tmp_path), opened_root(tmp_path, tiny_model).resolved
    MakeShard(resolved, root, on("GPU A"))(0)
    before = Store(root).sizes()

    def draws():
        raise AssertionError("it draws")

    with pytest.raises(OtherDevice) as error:
        MakeShard(resolved, root, on("GPU B", draws))(1)
    for word in ("GPU A", "GPU B", "accelerator_type", "--root", "mix_devices=true"):
        assert word in str(error.value)
    assert Store(root).sizes() == before
    assert MakeShard(resolved, root, on("GPU A"))(1).device.kind == "GPU A"


def test_of_two_kinds_that_start_on_an_empty_root_at_once_one_wins(tmp_path, tiny_model):
    root, resolved = str(tmp_path), opened_root(tmp_path, tiny_model).resolved
    winner = MakeShard(resolved, root, on("GPU A"))
    loser = MakeShard(resolved, root, on("GPU B", meanwhile=lambda: winner(0)))
    with pytest.raises(OtherDevice):
        loser(1)
    now = prepare(resolved.spec, root)
    assert {record.device.kind for record in now.inventory.records.values()} == {"GPU A"}
    assert_only_counted_files(now.store, now.inventory)


def test_a_run_that_ended_before_its_first_shard_binds_nobody(tmp_path, tiny_model):
    root, resolved = str(tmp_path), opened_root(tmp_path, tiny_model).resolved

    def dies():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MakeShard(resolved, root, on("GPU A", dies))(0)
    assert MakeShard(resolved, root, on("GPU B"))(0).device.kind == "GPU B"


def test_kinds_mix_where_it_is_asked_for_and_a_mixed_root_says_so(tmp_path, tiny_model):
    root, resolved = str(tmp_path), opened_root(tmp_path, tiny_model, mix_devices=True).resolved
    kinds = [
        MakeShard(resolved, root, on(f"GPU {word}"))(i).device.kind
        for i, word in [(0, "A"), (1, "B")]
    ]
    assert kinds == ["GPU A", "GPU B"]
    with pytest.raises(SpecError, match=r"GPU A, GPU B.*mix_devices=true"):
        opened_root(tmp_path, tiny_model)
    MakeShard(resolved, root, on("GPU B"))(2)
    assert opened_root(tmp_path, tiny_model).num_pending == 0  # nothing is left to be refused


def test_a_root_with_records_alone_is_kept_to_their_kind(tmp_path, tiny_model):
    root, resolved = str(tmp_path), opened_root(tmp_path, tiny_model, mix_devices=True).resolved
    MakeShard(resolved, root, on("GPU A"))(0)
    single = opened_root(tmp_path, tiny_model).resolved
    with pytest.raises(OtherDevice):
        MakeShard(single, root, on("GPU B"))(1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda store, record: store.put(record.name, b'{"broken'),
        lambda store, record: store.put(record.name, b"{}"),
        lambda store, record: store.put(record.file, store.get(record.file)[:-9]),
        lambda store, record: store.delete([record.file]),
        lambda store, record: store.put(
            record.name, record.model_copy(update={"shard": 2}).model_dump_json().encode()
        ),
        lambda store, record: store.put(
            record.name, record.model_copy(update={"fingerprint": "0"}).model_dump_json().encode()
        ),
    ],
    ids=["no json", "no record", "truncated", "missing", "other shard", "other dataset"],
)
def test_damage_is_named_and_mended_by_the_same_command(tmp_path, tiny_model, damage):
    made = make_dataset(tmp_path, tiny_model)
    record = made.inventory.records[1]
    damage(made.store, record)
    hurt = prepare(made.resolved.spec, str(tmp_path))
    assert list(hurt.pending()) == [1]
    assert list(hurt.inventory.broken) == [record.name]
    mended = make_dataset(tmp_path, tiny_model)
    assert digest(mended) == digest(made)
    assert mended.inventory.broken == {}


def test_recheck_finds_and_mends_a_flipped_byte(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    record = made.inventory.records[0]
    data = bytearray(made.store.get(record.file))
    data[len(data) // 2] ^= 1
    made.store.put(record.file, bytes(data))
    assert prepare(made.resolved.spec, str(tmp_path)).num_pending == 0
    opened, broken = open_root(prepare(small_spec(tiny_model, recheck=True), str(tmp_path)))
    assert list(opened.pending()) == [0]
    assert record.file in broken
    assert digest(make_dataset(tmp_path, tiny_model)) == digest(made)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"name": "other"}, 'name: "synthetic" -> "other"'),
        ({"shard_size": 8}, "shard_size: 16 -> 8"),
        ({"batch_size": 8}, "batch_size: 6 -> 8"),
        ({"threads": 2}, "threads: 1 -> 2"),
        ({"class_names": ("dog", "cat", "T-shirt/top")}, "class_names"),
        ({"output": {"format": "webdataset"}}, "output.format"),
        ({"output": {"compress_level": 1}}, "output.compress_level: 6 -> 1"),
        ({"images_per_class": TABLE}, 'layout: "interleaved" -> "by_class"'),
        ({"generator": {"num_inference_steps": 4}}, "generator.num_inference_steps: 3 -> 4"),
        ({"generator": {"guidance_scale": 2.0}}, "generator.guidance_scale: 1.0 -> 2.0"),
        ({"generator": {"dtype": "bfloat16"}}, "generator.dtype"),
        ({"generator": {"scheduler": "euler"}}, "generator.scheduler"),
    ],
)
def test_another_spec_is_refused_on_the_root_with_the_difference(
    tmp_path, tiny_model, fields, named
):
    made = make_dataset(tmp_path, tiny_model, num_images=3)
    before = made.store.sizes()
    with pytest.raises(SpecError) as error:
        prepare(small_spec(tiny_model, **fields), str(tmp_path))
    assert named in str(error.value)
    assert made.store.sizes() == before


def test_another_content_of_the_model_is_refused_on_the_root(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=3)
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(SpecError, match=r"generator\.digest"):
        prepare(small_spec(other), str(tmp_path / "root"))


@pytest.mark.parametrize("change", [{"num_images": 99}, {"resources": {"max_actors": 7}}])
def test_counts_and_placement_are_no_part_of_the_fingerprint(tmp_path, tiny_model, change):
    one = prepare(small_spec(tiny_model), str(tmp_path / "a"))
    two = prepare(small_spec(tiny_model, **change), str(tmp_path / "b"))
    assert one.resolved.fingerprint == two.resolved.fingerprint


def test_prepare_writes_nothing(tmp_path, tiny_model):
    prepare(small_spec(tiny_model), str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()


def test_a_machine_that_sees_the_root_as_the_driver_does_works_there(tmp_path, tiny_model):
    opened = opened_root(tmp_path, tiny_model)
    with opened.store.shown() as shown:
        MakeShard(opened.resolved, str(tmp_path), shown=shown)(0)
        # Another driver that ends meanwhile leaves it where it is.
        swept(take_inventory(opened.store, opened.resolved.fingerprint), opened)
        MakeShard(opened.resolved, str(tmp_path), shown=shown)(1)
    now = take_inventory(opened.store, opened.resolved.fingerprint)
    assert list(now.records) == [0, 1]
    assert_only_counted_files(opened.store, now)


def test_what_a_killed_driver_showed_its_root_by_is_swept(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    script = (
        "import os, sys\n"
        "from factory.store import Store\n"
        "with Store(sys.argv[1]).shown():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], timeout=60)
    now = take_inventory(made.store, made.resolved.fingerprint)
    assert len(now.strays) == 1
    swept(now, made)
    assert_only_counted_files(made.store, now)


def plant_nothing(here, there, model):
    pass


def plant_a_copy(here, there, model):
    shutil.copytree(here, there)


def plant_an_older_dataset(here, there, model):
    make_dataset(there, model, seed=1)


@pytest.mark.parametrize("plant", [plant_nothing, plant_a_copy, plant_an_older_dataset])
def test_a_machine_that_sees_another_folder_is_refused_and_changes_nothing(
    tmp_path, tiny_model, plant
):
    opened = opened_root(tmp_path / "here", tiny_model)
    plant(tmp_path / "here", tmp_path / "there", tiny_model)
    there = Store(str(tmp_path / "there"))
    before = there.sizes()
    with opened.store.shown() as shown:
        for shard in opened.pending():
            with pytest.raises(OtherRoot, match="all machines share"):
                MakeShard(opened.resolved, there.url, shown=shown)(shard)
    assert there.sizes() == before


def test_memory_root_works_in_one_process(tiny_model, tmp_path):
    here = make_dataset(f"memory://{tmp_path.name}", tiny_model)
    assert digest(here) == digest(make_dataset(tmp_path, tiny_model))


def test_s3_root_gives_the_digest_of_a_local_one(s3_bucket, tiny_model, tmp_path):
    remote = make_dataset(f"{s3_bucket}/{tmp_path.name}", tiny_model)
    assert digest(remote) == digest(make_dataset(tmp_path, tiny_model))
    assert remote.num_pending == 0


def test_samples_carry_what_made_them(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    sample = samples(made)[20]
    candidate = made.resolved.plan.candidate(1, 4)
    assert sample.key == candidate.key
    pixels = decode_image(sample.image)
    assert pixels.shape == (8, 8, 3)
    wanted = {
        "is_synthetic": True,
        "source": "synthetic",
        "shard": 1,
        "candidate": 4,
        "seed": candidate.seed,
        "model_id": "tiny",
        "model_revision": made.resolved.model.digest,
        "num_inference_steps": 3,
        "guidance_scale": 1.0,
    }
    assert wanted.items() <= dict(sample.provenance).items()


def test_record_tells_digest_counts_and_device(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    record = made.inventory.records[2]
    data = made.store.get(record.file)
    assert record.name == record_name(2, 8)
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert record.num_bytes == len(data)
    assert record.class_counts == {"T-shirt/top": 3, "cat": 3, "dog": 2}
    assert record.device.kind.startswith("cpu")
    assert ShardRecord.model_validate_json(made.store.get(record.name)) == record


def test_contact_sheet_shows_a_row_a_class(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    path = save_contact_sheet(made.store, made.inventory.records, anew=True)
    assert path == f"{tmp_path}/contact-sheet.png"
    height, width, _ = decode_image(made.store.get("contact-sheet.png")).shape
    assert height >= 3 * 16
    assert width >= 10 * 16


def test_contact_sheet_has_classes_in_order_however_they_were_found(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    sheets = []
    for order in (1, -1):
        records = {
            shard: record.model_copy(
                update={"class_counts": dict([*record.class_counts.items()][::order])}
            )
            for shard, record in made.inventory.records.items()
        }
        save_contact_sheet(made.store, records, anew=True)
        sheets.append(made.store.get("contact-sheet.png"))
    assert sheets[0] == sheets[1]


def test_estimate_scales_the_records_to_what_is_pending(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model)
    assert estimate(prepare(small_spec(tiny_model), str(tmp_path / "new"))) is None
    prices = {"price_per_hour": 3600.0, "max_actors": 2}
    more = prepare(small_spec(tiny_model, num_images=80, resources=prices), str(tmp_path))
    guess = estimate(more)
    records = made.inventory.records.values()
    pending = 80 - 32  # the short third shard is made again
    assert guess.num_bytes == round(pending * sum(r.num_bytes for r in records) / 40)
    each = sum(sum(r.seconds.values()) for r in records) / 40
    assert guess.actor_seconds == pytest.approx(pending * each, abs=0.06)
    assert guess.seconds == pytest.approx(guess.actor_seconds / 2, abs=0.06)
    assert guess.cost == pytest.approx(guess.actor_seconds, abs=0.1)


def test_a_half_made_root_tells_how_far_it_is(tmp_path, tiny_model):
    made = make_dataset(tmp_path, tiny_model, num_images=48)
    for record, put in zip(made.inventory.records.values(), (1_000, 2_200, 2_260), strict=True):
        os.utime(tmp_path / record.name, (put, put))
    prices = {"price_per_hour": 3600.0}
    asked = prepare(small_spec(tiny_model, num_images=80, resources=prices), str(tmp_path))
    # The first record lies more than ten minutes before the last: 16 images in 60 seconds.
    told = so_far(asked, now=2_290.0)
    assert (told.num_images, told.seconds_since_last) == (48, 30.0)
    assert (told.images_per_second, told.seconds_left) == (0.27, 120.0)
    worked = sum(sum(record.seconds.values()) for record in made.inventory.records.values())
    assert told.actor_seconds == pytest.approx(worked, abs=0.06)
    assert told.cost == pytest.approx(worked, abs=0.006)


def test_of_a_root_that_nobody_works_on_no_rate_is_told(tmp_path, tiny_model):
    assert so_far(prepare(small_spec(tiny_model), str(tmp_path)), now=0.0) is None
    made = make_dataset(tmp_path, tiny_model)
    for record in made.inventory.records.values():
        os.utime(tmp_path / record.name, (1_000 + record.shard, 1_000 + record.shard))
    assert so_far(made, now=1_602.0).images_per_second == 12.0  # 16 and 8 images in 2 seconds
    told = so_far(made, now=1_603.0)
    assert (told.images_per_second, told.seconds_left, told.cost) == (None, None, None)


def test_images_of_one_class_differ(tmp_path, tiny_model):
    pixels = [decode_image(s.image) for s in samples(make_dataset(tmp_path, tiny_model))]
    assert len({p.tobytes() for p in pixels}) == len(pixels)
    assert np.std(pixels) > 0
