"""Label mapping: fine classes found by name and index, and shared among the turns of a class."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory.mapping import fine_label, read_id2label, resolve_mapping
from factory.spec import DitGenerator, FineClass, GenerateSpec, SpecError, load_spec

NAMES = {
    0: "fire engine, fire truck",
    1: "garbage truck, dustcart",
    2: "crane",
    3: "airliner",
    4: "crane",
    5: "maillot",
    6: "maillot, tank suit",
}


def fine(name, index=None, weight=1.0):
    return FineClass(name=name, index=index, weight=weight)


def numbered(weights):
    """A mapping of one class, "all", onto as many fine classes as there are weights."""
    id2label = {label: f"class {label}" for label in range(len(weights))}
    items = [fine(id2label[label], weight=weight) for label, weight in enumerate(weights)]
    return resolve_mapping({"all": items}, id2label)


@pytest.mark.parametrize(
    ("item", "label"),
    [
        (fine("garbage truck, dustcart"), 1),
        (fine("dustcart"), 1),
        (fine("Fire  Truck"), 0),
        (fine("fire truck", index=0), 0),
        (fine("crane", index=4), 4),
        (fine("maillot", index=5), 5),
        (fine("tank suit"), 6),
    ],
)
def test_fine_class_is_found_by_any_of_its_names(item, label):
    (found,) = resolve_mapping({"thing": [item]}, NAMES).classes["thing"]
    assert (found.label, found.name) == (label, NAMES[label])


def test_resolve_mapping_names_every_offender():
    mapping = {
        "truck": [fine("fire truck"), fine("garbage trucks"), fine("fire engine")],
        "bird": [fine("crane"), fine("maillot")],
        "plane": [fine("airliner"), fine("airliner", index=1), fine("airliner", index=1000)],
        "rest": [fine("crane", index=2), fine("dustcart", weight=1e-7)],
    }
    with pytest.raises(SpecError) as caught:
        resolve_mapping(mapping, NAMES)
    reasons = dict(line.split(": ", 1) for line in str(caught.value).split("; generator.mapping."))
    reasons = {place.removeprefix("generator.mapping."): why for place, why in reasons.items()}
    assert reasons.keys() == {
        "truck.1",
        "truck.2",
        "bird.0",
        "bird.1",
        "plane.1",
        "plane.2",
        "rest",
    }
    assert "'garbage trucks'" in reasons["truck.1"]
    assert "nearest: 'garbage truck' [1], " in reasons["truck.1"]
    assert reasons["truck.1"].count("'") == 2 * 4
    assert "number 0 already" in reasons["truck.2"]
    assert "[2, 4]" in reasons["bird.0"]
    assert "[5, 6]" in reasons["bird.1"]
    assert "'garbage truck, dustcart'" in reasons["plane.1"]
    assert "'airliner' is [3]" in reasons["plane.1"]
    assert "index 1000 is no class" in reasons["plane.2"]
    assert "[1.0, 1e-07]" in reasons["rest"]
    assert "10000001 images" in reasons["rest"]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
# Webster's sequence, and the largest deficit, miss the share of these by 1 or more.
@example([20, *[1] * 10])
@example([2, 1, 2, 2, 5, 56, 5, 56])
def test_any_first_turns_hold_each_fine_class_its_share_within_one(weights):
    mapping = numbered(weights)
    counts, total = Counter(), sum(weights)
    for turn in range(2 * total):
        counts[fine_label(mapping, "all", turn).label] += 1
        for label, weight in enumerate(weights):
            # |count - share| < 1, times the sum of the weights.
            assert abs(counts[label] * total - (turn + 1) * weight) < total


def test_equal_weights_take_turns():
    mapping = numbered([0.7] * 5)
    assert [fine_label(mapping, "all", turn).label for turn in range(12)] == [
        *(0, 1, 2, 3, 4),
        *(0, 1, 2, 3, 4),
        *(0, 1),
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from([0.1, 0.25, 3, 100]))
def test_only_the_proportion_of_weights_counts(weights, factor):
    scaled = [round(weight * factor, 6) for weight in weights]
    assert numbered(scaled) == numbered(weights)


def test_fine_label_of_a_far_turn_is_that_of_the_same_turn_in_a_round():
    mapping = numbered([2, 3, 5])
    assert fine_label(mapping, "all", 10**7 + 4) == fine_label(mapping, "all", 4)


def test_shipped_mapping_is_table_3_of_basu2022():
    imagenet = {
        510: "container ship, containership, container vessel",
        540: "drilling platform, offshore rig",
        555: "fire engine, fire truck",
        569: "garbage truck, dustcart",
        628: "liner, ocean liner",
        714: "pick, plectrum, plectron",
        717: "pickup, pickup truck",
        724: "pirate, pirate ship",
        864: "tow truck, tow car, wrecker",
        867: "trailer truck, tractor trailer, trucking rig, rig, articulated lorry, semi",
    }
    path = Path(__file__).parents[1] / "jobs" / "specs" / "generate_basu2022_imagenet.yaml"
    spec = load_spec(GenerateSpec, path)
    assert isinstance(spec.generator, DitGenerator)
    classes = resolve_mapping(spec.generator.mapping, imagenet).classes
    labels = {name: [item.label for item in fine] for name, fine in classes.items()}
    assert labels == {"truck": [555, 569, 717, 864, 867], "ship": [510, 724]}


def save_configs(folder, index, num_classes=2):
    (folder / "transformer").mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    config = {"num_embeds_ada_norm": num_classes, "num_layers": 1}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    return folder


def test_read_id2label_gives_names_by_number(tmp_path):
    index = {"_class_name": "DiTPipeline", "id2label": {"1": "b, c", "0": "a"}, "vae": ["x", "Y"]}
    assert read_id2label(save_configs(tmp_path, index)) == {0: "a", 1: "b, c"}


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "is a StableDiffusionPipeline"),
        ({"_class_name": "DiTPipeline"}, "has no id2label"),
        ({"_class_name": "DiTPipeline", "id2label": {"0": "a", "2": "null"}}, r"labels \[2\]"),
        ({"_class_name": "DiTPipeline", "id2label": {"one": "a"}}, r"id2label\.one"),
        ({"id2label": {"0": "a"}}, "_class_name"),
    ],
)
def test_read_id2label_refuses_other_models(tmp_path, index, said):
    with pytest.raises(SpecError, match=said) as caught:
        read_id2label(save_configs(tmp_path, index))
    assert str(tmp_path) in str(caught.value)


def test_read_id2label_refuses_a_folder_without_model(tmp_path):
    with pytest.raises(SpecError, match=r"model_index\.json cannot be read"):
        read_id2label(tmp_path)
