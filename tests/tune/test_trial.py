"""Trainings of a search without Ray."""

from factory.pages.folder import ASKED_NAME
from factory.store import Store
from factory.tune.point import SEARCH_FOLDER
from factory.tune.prepare import prepare
from factory.tune.trial import Score, train


def test_a_training_on_record_says_again_what_it_said(striped_search, tmp_path):
    real = {"mix": {"kind": "real"}, "batches": "joint"}
    prepared = prepare(
        striped_search(arm=real, space={"training.learning_rate": [0.05]}), str(tmp_path)
    )
    Store(prepared.root).put(f"{SEARCH_FOLDER}/{ASKED_NAME}", b"")

    def rows():
        *progress, score = train(prepared.spec, prepared.root, prepared.data, None, 0)
        assert isinstance(score, Score)
        return [(row.percent, row.accuracy) for row in progress], score

    first, again = rows(), rows()
    assert again == first
    percents = [percent for percent, _ in first[0]]
    assert len(percents) > 3
    assert percents == sorted(percents)
    assert percents[-1] == 100
