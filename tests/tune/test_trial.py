"""Trainings of a search without Ray."""

from factory.classify.results import TrialRecord
from factory.records import ASKED_NAME
from factory.store import Store
from factory.tune.point import SEARCH_FOLDER
from factory.tune.prepare import prepare
from factory.tune.trial import prepare_trial, train
from factory.tune.tried import Score
from tests.classify.comparisons import DEVICE, fake_history

REAL = {"mix": {"kind": "real"}, "batches": "joint"}
RATES = {"training.learning_rate": [0.05]}


def test_a_training_on_record_says_again_what_it_said(striped_search, tmp_path):
    prepared = prepare(striped_search(arm=REAL, space=RATES), str(tmp_path))
    Store(prepared.root).put(f"{SEARCH_FOLDER}/{ASKED_NAME}", b"")

    def rows():
        *progress, score = train(prepared.spec, prepared.root, prepared.data, None, 0)
        assert isinstance(score, Score)
        found = {row.is_found for row in progress}
        return [(row.percent, row.accuracy) for row in progress], score, found

    first, again = rows(), rows()
    assert again[:2] == first[:2]
    assert (first[2], again[2]) == ({False}, {True})
    percents = [percent for percent, _ in first[0]]
    assert len(percents) > 3
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_the_time_of_a_training_is_that_of_all_its_workers(striped_search, tmp_path):
    def seconds(num_workers):
        spec = striped_search(arm=REAL, space=RATES, num_workers=num_workers)
        prepared = prepare(spec, str(tmp_path))
        trial = prepare_trial(spec, prepared.root, prepared.data, None)
        *progress, score = trial.replay(fake_record(seconds=10.0))
        assert progress[-1].seconds == score.seconds
        return score.seconds

    assert (seconds(1), seconds(2)) == (10.0, 20.0)


def fake_record(*, seconds):
    return TrialRecord(
        fingerprint="",
        arm="trial",
        trial=0,
        predictions="",
        sha256="",
        weights_sha256="",
        top1=0.5,
        num_parameters=1,
        num_steps=60,
        images_seen=960,
        best_epoch=None,
        history=fake_history(1.0, 0),
        seconds=seconds,
        images_per_second=96.0,
        device=DEVICE,
    )
