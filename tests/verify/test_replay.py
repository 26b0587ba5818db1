"""Drawing images again: equal on this device, other where tampered, not comparable elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from factory.images import decode_image
from factory.records import Device
from factory.spec import SpecError
from factory.verify.replay import load_sampler, remake
from tests.datasets import make_dataset
from tests.tampering import put_record, put_samples, read_samples, with_other_pixels

ELSEWHERE = Device(kind="NVIDIA Imaginary", versions={"torch": "0.1"})


class OtherDevice:
    """A sampler of another kind of device, which must not be asked to draw."""

    device = ELSEWHERE

    def __init__(self, resolved):
        pass

    def __call__(self, batch):
        raise AssertionError("drawn though nothing can be compared")


def tamper(prepared, shard, place):
    """Change one pixel of a sample, with digests and record that agree; return its key."""
    samples = read_samples(prepared, shard)
    samples[place] = with_other_pixels(samples[place])
    put_samples(prepared, shard, samples)
    return samples[place].key


def test_clean_root_is_drawn_again_equal(root, verify):
    report = verify(root, replay=1)
    assert (report.ok, report.replayed, report.replay_mismatches) == (True, 40, 0)


def test_by_class_root_is_drawn_again_equal(tmp_path, tiny_model, verify):
    make_dataset(tmp_path, tiny_model, images_per_class={"cat": 20, "T-shirt/top": 5})
    report = verify(tmp_path, replay=1)
    assert (report.ok, report.replayed) == (True, 25)


def test_part_is_drawn_again(root, verify):
    report = verify(root, replay=0.1)
    assert report.ok
    # One of eight batches of 6, of which the last in a shard holds 4 or 2 stored images.
    assert report.replayed in (2, 4, 6)


def test_image_that_only_a_replay_can_tell_is_named(root, opened, verify):
    key = tamper(opened(root), 1, 9)
    assert verify(root).ok
    report = verify(root, replay=1)
    assert (report.exit_code, report.replayed, report.replay_mismatches) == (3, 40, 1)
    assert [(f.shard, f.key) for f in report.findings] == [(1, key)]
    assert "1 of 192 values, by at most 1" in report.findings[0].what
    assert report.mend.startswith(f"delete {opened(root).records[1].name}, ")


def test_sample_that_cannot_be_decoded_is_no_match(root, opened, verify):
    prepared = opened(root)
    samples = read_samples(prepared, 0)
    samples[0] = replace(samples[0], image=samples[0].image[:60])
    put_samples(prepared, 0, samples)
    report = verify(root, replay=1)
    assert {finding.key for finding in report.findings} == {samples[0].key}
    assert report.replay_mismatches == 1


def test_unreadable_shard_is_left_to_the_light_check(root, opened, verify):
    path = root / opened(root).records[0].file
    path.write_bytes(bytes(path.stat().st_size))
    report = verify(root, replay=1)
    assert {finding.shard for finding in report.findings} == {0}
    assert (report.replayed, report.replay_mismatches) == (24, 0)


def test_shard_of_another_device_is_not_comparable(root, opened, verify):
    prepared = opened(root)
    record = prepared.records[2]
    put_record(prepared, record.model_copy(update={"device": ELSEWHERE}))
    report = verify(root, replay=1)
    assert (report.ok, report.replayed) == (True, 32)
    [(reason, number)] = report.not_comparable.items()
    assert number == 8
    assert '"NVIDIA Imaginary" -> "cpu' in reason
    assert 'versions.torch: "0.1" -> ' in reason


def test_nothing_is_drawn_on_another_device(root, verify):
    report = verify(root, replay=1, load=OtherDevice)
    assert (report.ok, report.replayed) == (True, 0)
    assert list(report.not_comparable.values()) == [40]


def test_one_image_is_made_again_byte_for_byte(root, opened, tmp_path):
    samples = read_samples(opened(root), 1)
    for sample in (samples[0], samples[-1]):
        made = remake(opened(root, only=sample.key, output=str(tmp_path / "new" / "folder")))
        assert (made.stored, made.reason, made.class_name) == ("same", None, sample.class_name)
        assert Path(made.file).name == f"{sample.key}.png"
        assert Path(made.file).read_bytes() == sample.image


def test_candidate_that_is_not_stored_is_made_all_the_same(root, opened, tmp_path):
    for index, shard in ((17, 0), (0, 999)):
        key = opened(root).dataset.plan.candidate(shard, index).key
        made = remake(opened(root, only=key, output=str(tmp_path)))
        assert made.stored == "not there"
        assert decode_image(Path(made.file).read_bytes()).shape == (8, 8, 3)


def test_one_image_with_other_pixels_is_told(root, opened, tmp_path):
    key = tamper(opened(root), 0, 2)
    made = remake(opened(root, only=key, output=str(tmp_path)))
    assert made.stored == "other"
    assert opened(root).records[0].file in made.reason


def test_one_image_of_another_device_is_made_and_not_compared(root, opened, tmp_path):
    class Elsewhere:
        device = ELSEWHERE

        def __init__(self, resolved):
            self._sampler = load_sampler(resolved)

        def __call__(self, batch):
            return self._sampler(batch)

    sample = read_samples(opened(root), 0)[0]
    made = remake(opened(root, only=sample.key, output=str(tmp_path)), load=Elsewhere)
    assert made.stored == "not comparable"
    assert Path(made.file).exists()


def test_output_that_is_no_folder_is_refused_before_the_model_is_loaded(root, opened, tmp_path):
    (tmp_path / "file").touch()
    key = opened(root).dataset.plan.candidate(0, 0).key
    prepared = opened(root, only=key, output=str(tmp_path / "file"))
    with pytest.raises(SpecError, match=r"output: .*file"):
        remake(prepared, load=OtherDevice)
