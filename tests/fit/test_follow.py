from factory.fit.follow import Follow
from factory.fit.history import HISTORY_NAME, Row, Verdict
from factory.store import Store


def put_history(store, rows):
    store.put(HISTORY_NAME, "".join(row.model_dump_json() + "\n" for row in rows).encode())


def row(images, verdict=None):
    return Row(images=images, loss=0.5, learning_rate=1e-3, seconds=images / 10, verdict=verdict)


def test_follow_tells_each_verdict_and_the_newest_row_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="factory")
    store = Store(str(tmp_path))
    verdict = Verdict(
        images=20,
        validation_loss=0.25,
        frechet_distance=1.25,
        agreement=0.8,
        num_samples=100,
        images_per_second=5,
    )
    rows = [row(10), row(20, verdict), row(30), row(40)]
    put_history(store, rows[:1])
    follow = Follow(store, num_images=50)
    put_history(store, rows)
    follow.look(patience=0)
    follow.look(patience=0)
    assert [message.split(" of ")[0] for message in caplog.messages] == ["20", "40"]
    assert caplog.messages[0].endswith(
        "3 s to go; validation loss 0.2500, Frechet distance 1.250, agreement 80.0%"
    )
    assert "10 images/s" in caplog.messages[1]


def test_follow_waits_before_it_speaks_again(tmp_path, caplog):
    caplog.set_level("INFO", logger="factory")
    store = Store(str(tmp_path))
    follow = Follow(store, num_images=50)
    put_history(store, [row(10)])
    follow.look(patience=3_600)
    assert not caplog.messages
