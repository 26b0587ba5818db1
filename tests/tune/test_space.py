"""Spaces: exact values, snapped numbers, and every mistake refused by its path."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec import Range, SpecError, TuneSpec, validate
from factory.tune.space import (
    check_space,
    combinations,
    decode,
    encode,
    in_words,
    snap,
    values,
    with_config,
)

RATIO = "arm.synthetic_ratio"
GUIDANCE = "generate.generator.guidance_scale"


def tuning(space, **fields):
    return validate(TuneSpec, {"space": space, **fields}, "spec")


def refused(space, **fields):
    with pytest.raises(SpecError) as caught:
        check_space(tuning(space, **fields))
    return str(caught.value)


def test_steps_reach_from_low_to_high():
    assert values(Range(low=1, high=3, step=0.5)) == (1.0, 1.5, 2.0, 2.5, 3.0)
    assert values(Range(low=10, high=50, step=20)) == (10, 30, 50)
    assert values(Range(low=0, high=1, step=0.4)) == (0.0, 0.4, 0.8)
    assert values(Range(low=0, high=1)) is None


@given(st.floats(0, 10), st.floats(0.01, 3), st.integers(1, 40), st.floats(0, 1))
def test_a_snapped_number_is_one_of_the_values_and_near(low, step, steps, share):
    parameter = Range(low=low, high=low + steps * step, step=step)
    number = low + share * steps * step
    found = snap(parameter, number)
    assert found in values(parameter)
    assert abs(found - number) <= 0.51 * step


def test_values_that_searchers_do_not_take_go_through_json():
    parameter = (None, [1, 2], {"kind": "real"}, "word")
    assert all(isinstance(value, str) for value in encode(parameter))
    for place, drawn in enumerate(encode(parameter)):
        assert decode({"arm.mix": parameter}, {"arm.mix": drawn}) == {"arm.mix": parameter[place]}


def test_combinations_are_those_of_one_section():
    space = tuning({RATIO: [0.25, 0.75], GUIDANCE: {"low": 1, "high": 2, "step": 0.5}}).space
    assert len(list(combinations(space))) == 6
    assert list(combinations(space, "arm.")) == [{RATIO: 0.25}, {RATIO: 0.75}]
    assert list(combinations(space, "training.")) == [{}]


def test_a_configuration_changes_its_fields_alone():
    spec = tuning({RATIO: [0.25], GUIDANCE: [2.0], "training.learning_rate": [0.05]})
    config = {RATIO: 0.25, GUIDANCE: 2.0, "training.learning_rate": 0.05}
    changed = with_config(spec, config)
    assert changed.arm == spec.arm.model_copy(update={"synthetic_ratio": 0.25})
    assert changed.generate.generator.guidance_scale == 2.0
    assert changed.training == spec.training.model_copy(update={"learning_rate": 0.05})
    before = spec.generate.generator.guidance_scale
    restored = with_config(changed, {RATIO: 0.5, GUIDANCE: before, "training.learning_rate": 0.1})
    assert restored.model_dump() == spec.model_dump()
    assert in_words(config) == "synthetic_ratio 0.25, guidance_scale 2, learning_rate 0.05"


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"arm.synthetic_ration": [0.5]}, ["synthetic_ration", "did you mean 'synthetic_ratio'"]),
        ({"arm.mix.fraction": [0.5]}, ["fraction 0.5", "is no key of MultiplierMix"]),
        ({"generate.generator.guidence": [1]}, ["guidence", "guidance_scale"]),
        ({"generate.reconstruct.t_re": [5]}, ["generate.reconstruct.source"]),
        (
            {"generate.filters.0.threshold": [0.5]},
            ["threshold 0.5", "generate.filters"],
        ),
        ({RATIO: [0.5, 1.5]}, ["synthetic_ratio 1.5", "less than 1"]),
        ({"training.num_steps": ["many"]}, ["num_steps many", "training.num_steps"]),
    ],
)
def test_what_is_no_field_or_no_value_of_it_is_refused(space, named):
    message = refused(space)
    assert all(words in message for words in named), message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"space": {"real.num_images": [1]}}, ["real.num_images", "generate, arm"]),
        ({"space": {"arm": [1]}}, ["'arm'", "names a field"]),
        ({"space": {"generate.num_images": [1]}}, ["generate.num_images", "mix decides"]),
        ({"space": {"generate.reconstruct.passes": [1, 2]}}, ["passes", "mix decides"]),
        ({"space": {"generate.shard_size": [10]}}, ["generate.shard_size", "larger dataset"]),
        ({"space": {"arm.mix": [1], "arm.mix.multiplier": [1]}}, ["arm.mix", "within it"]),
        ({"space": {}}, ["space: holds 0"]),
        ({"space": {RATIO: []}}, [RATIO, "holds 0", "at least 1"]),
        ({"space": {RATIO: 0.5}}, [RATIO, "got 0.5", "give a list"]),
        ({"space": {RATIO: [0.5, 0.25, 0.5]}}, [RATIO, "0.5 stands there more than once"]),
        ({"space": {"arm": {"synthetic_ratio": [0.5]}}}, ["space.arm: holds", "one key"]),
        ({"confirm": 3}, ["confirm: got 3", "top, num_seeds"]),
        ({"resources": {"price_per_hour": 1}}, ["generate.resources.price_per_hour None", "both"]),
        ({"space": {RATIO: {"low": 0.5, "high": 0.5}}}, ["low is 0.5", "higher high"]),
        ({"space": {RATIO: {"low": 0.1, "high": 0.5, "step": 1}}}, ["step is 1"]),
        ({"space": {RATIO: {"low": 0.0, "high": 0.5, "log": True}}}, ["log is true"]),
        ({"space": {RATIO: {"low": 0.1, "high": 0.5, "lowest": 1}}}, ["lowest", "low"]),
        ({"search": {"searcher": "optuna"}}, ["num_trials"]),
        ({"search": {"num_trials": 3}}, ["grid", "num_trials 3"]),
        ({"search": {"scheduler": "asha", "num_seeds": 2}}, ["asha", "num_seeds 2"]),
        ({"validation_fraction": 0}, ["validation", "test images"]),
        ({"training": {"num_steps": 5, "validation": {}}}, ["training.validation"]),
        ({"generate": {"num_images": 5}}, ["generate.num_images", "mix decides"]),
        ({"arm": {"match": "steps"}}, ["arm.match", "training.num_steps"]),
    ],
)
def test_specs_that_cannot_be_searched_are_refused(fields, named):
    with pytest.raises(SpecError) as caught:
        validate(TuneSpec, fields, "spec")
    assert all(words in str(caught.value) for words in named), str(caught.value)


def test_endless_values_are_refused_where_they_have_no_end():
    endless = {"low": 1.0, "high": 2.0}
    assert "no step, and a grid" in refused({"training.learning_rate": endless})
    random = {"searcher": "random", "num_trials": 4}
    assert "share them" in refused({GUIDANCE: endless}, search=random)
    steps = {"training.num_steps": {"low": 10, "high": 100, "log": True}}
    message = refused(steps, search=random)
    assert all(words in message for words in ("training.num_steps", "integer", "give a step"))
    check_space(tuning({"training.learning_rate": endless}, search=random))


def test_every_shipped_value_is_tried_once():
    spec = TuneSpec()
    tried = [tuple(config.values()) for config in combinations(spec.space)]
    wanted = itertools.product(*(values(parameter) for parameter in spec.space.values()))
    assert tried == list(wanted)
