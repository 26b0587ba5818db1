"""What holds for shards of both formats."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard
from factory.shards.sample import PROVENANCE, Sample
from factory.shards.webdataset import write_webdataset

WRITERS = {"parquet": write_parquet, "webdataset": write_webdataset}
formats = pytest.mark.parametrize("format", list(WRITERS))

values = {
    "bool": st.booleans(),
    "string": st.text(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def shards(draw):
    """Class names, and samples of any content with the same columns of provenance."""
    class_names = draw(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
    columns = draw(st.lists(st.sampled_from(list(PROVENANCE)), unique=True))
    keys = st.from_regex(r"[A-Za-z0-9_-]{1,95}", fullmatch=True)
    samples = []
    for key in draw(st.lists(keys, min_size=1, max_size=4, unique=True)):
        label = draw(st.integers(0, len(class_names) - 1))
        provenance = {c: draw(st.none() | values[str(PROVENANCE[c])]) for c in columns}
        samples.append(Sample(key, draw(st.binary()), label, class_names[label], provenance))
    return class_names, tuple(samples)


@formats
@given(shard=shards())
def test_reading_gives_what_was_written_with_its_types(format, shard):
    class_names, samples = shard
    found = read_shard(WRITERS[format](samples, class_names), format)
    assert found == samples
    # 1, 1.0 and True are equal, and not the same.
    assert [[type(v) for v in s.provenance.values()] for s in found] == [
        [type(s.provenance[c]) for c in PROVENANCE if c in s.provenance] for s in samples
    ]


@formats
def test_same_samples_give_the_same_bytes(format, samples, class_names):
    copies = [
        dataclasses.replace(s, provenance=dict(reversed(s.provenance.items()))) for s in samples
    ]
    write = WRITERS[format]
    assert write(samples, class_names) == write(copies, list(class_names))


@formats
def test_another_label_gives_other_bytes(format, make_sample, class_names):
    write = WRITERS[format]
    other = make_sample(0, label=1, class_name=class_names[1])
    assert write([make_sample(0)], class_names) != write([other], class_names)


@formats
@pytest.mark.parametrize("key", ["", "a.b", "a/b", "a b", "ä", "a\n", "k" * 96])
def test_bad_keys_are_all_named(format, key, make_sample, class_names):
    samples = [make_sample(0), make_sample(1, key=key), make_sample(2, key="x.y")]
    with pytest.raises(ValueError, match="keys") as caught:
        WRITERS[format](samples, class_names)
    assert f"{[key, 'x.y']}" in str(caught.value)


@formats
def test_repeated_keys_are_named(format, make_sample, class_names):
    with pytest.raises(ValueError, match=r"\['twin'\] occur more than once"):
        WRITERS[format]([make_sample(0, key="twin"), make_sample(1, key="twin")], class_names)


@formats
def test_no_samples_are_no_shard(format, class_names):
    with pytest.raises(ValueError, match="no samples"):
        WRITERS[format]([], class_names)


@formats
@pytest.mark.parametrize(
    "changes", [{"label": 3}, {"label": -1}, {"label": 0}, {"class_name": "sneaker"}]
)
def test_label_that_is_not_its_class_is_named(format, changes, make_sample, class_names):
    wrong = make_sample(1, **changes)
    with pytest.raises(ValueError, match=f"{wrong.key}.*{wrong.label}.*{wrong.class_name}"):
        WRITERS[format]([make_sample(0), wrong], class_names)


@formats
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seed", "7"),
        ("seed", True),
        ("seed", 7.0),
        ("guidance_scale", 1),
        ("guidance_scale", float("nan")),
        ("is_synthetic", 1),
        ("source", 3),
    ],
)
def test_provenance_of_another_type_is_named(format, column, value, make_sample, class_names):
    wrong = make_sample(1)
    wrong = dataclasses.replace(wrong, provenance={**wrong.provenance, column: value})
    with pytest.raises(ValueError, match=f"{wrong.key}: {column} is {value!r}"):
        WRITERS[format]([make_sample(0), wrong], class_names)


@formats
def test_unknown_provenance_is_named(format, make_sample, class_names):
    wrong = make_sample(1, provenance={"sed": 3})
    with pytest.raises(ValueError, match=rf"{wrong.key}.*\['sed'\].*'seed'"):
        WRITERS[format]([wrong], class_names)


@formats
def test_sample_with_other_columns_is_named(format, make_sample, class_names):
    wrong = make_sample(2)
    wrong = dataclasses.replace(wrong, provenance={"seed": 3})
    with pytest.raises(ValueError, match=f"{wrong.key}.*'shard'"):
        WRITERS[format]([make_sample(0), make_sample(1), wrong], class_names)


@formats
def test_cut_anywhere_is_refused_with_its_size(format, samples, class_names):
    whole = WRITERS[format](samples[:5], class_names)
    end = len(whole.rstrip(b"\0"))
    for size in (0, 1, 511, 512, 1024, 4096, end // 2, end - 1):
        with pytest.raises(ValueError, match=f"shard of {size} bytes"):
            read_shard(whole[:size], format)


@formats
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_damage_is_a_value_error_or_other_samples_but_no_fewer(
    format, place, bit, samples, class_names
):
    damaged = bytearray(WRITERS[format](samples[:3], class_names))
    damaged[int(place * len(damaged))] ^= 1 << bit
    with contextlib.suppress(ValueError):
        assert len(read_shard(bytes(damaged), format)) == 3


@formats
def test_something_else_is_refused(format):
    with pytest.raises(ValueError, match="cannot be read"):
        read_shard(b"something else" * 1000, format)


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"'tfrecord'.*'parquet' or 'webdataset'"):
        read_shard(b"", "tfrecord")
