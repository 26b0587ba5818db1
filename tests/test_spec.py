import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec import (
    ClassifySpec,
    EvaluateSpec,
    FitSpec,
    GenerateSpec,
    SourceSpec,
    SpecError,
    TuneSpec,
    differences,
    fingerprint,
    load_spec,
)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("nmu_images=5", ["nmu_images", "num_images"]),
        ("generator.guidence_scale=2", ["generator.guidence_scale", "guidance_scale"]),
        ("num_images=-1", ["num_images", "-1"]),
        ("num_images=true", ["num_images", "True"]),
        ("num_images=1.5", ["num_images", "1.5"]),
        ("seed=abc", ["seed", "abc"]),
        ("generator=5", ["generator", "5"]),
        ("images_per_class={cat: -3}", ["images_per_class.cat", "-3"]),
        ("class_names=[a, a]", ["class_names", "['a']"]),
        ("generator.sigma_min=100", ["sigma_min", "100", "80"]),
        ("generator.guidance_interval=[2, 1]", ["guidance_interval", "[2.0, 1.0]"]),
        ("generator.scheduler=ddpm", ["generator.scheduler", "ddpm", "heun"]),
        ("name=a/b", ["name", "a/b"]),
        ("noequals", ["noequals", "key.path=value"]),
        ("seed.deeper=1", ["seed"]),
    ],
)
def test_load_spec_refuses_and_names_field_value_and_remedy(override, named):
    with pytest.raises(SpecError) as error:
        load_spec(GenerateSpec, None, [override])
    for part in named:
        assert part in str(error.value)


def test_load_spec_names_all_wrong_fields_at_once():
    with pytest.raises(SpecError) as error:
        load_spec(GenerateSpec, None, ["seed=x", "threads=0", "shardsize=1"])
    assert all(part in str(error.value) for part in ("seed", "threads", "shard_size"))


def test_a_list_is_not_called_short_for_the_entries_that_are_wrong():
    with pytest.raises(SpecError) as error:
        load_spec(EvaluateSpec, None, ["extractors=[{kind: vgg16}]"])
    assert "extractors.0.kind: got 'vgg16'" in str(error.value)
    assert "at least" not in str(error.value)
    with pytest.raises(SpecError, match=r"extractors: holds 0; give at least 1"):
        load_spec(EvaluateSpec, None, ["extractors=[]"])


@pytest.mark.parametrize(
    ("cls", "override", "named"),
    [
        (
            GenerateSpec,
            "filters=[{kind: near_real, real: {}, held_out: {}, quantile: 2}]",
            "command line: filters.0.quantile: got 2",
        ),
        (ClassifySpec, "arms={a: {mix: {kind: multiplier}}}", "arms.a.mix.multiplier: is missing"),
        (GenerateSpec, "num_images=ten", "command line: num_images: got 'ten'"),
        (ClassifySpec, "synthetic.path=out", "synthetic.path: got 'out'; give a section"),
        (ClassifySpec, "arms={mix: 3}", "arms.mix: got 3; give a section with some of its keys"),
        (ClassifySpec, "synthetic=out", "synthetic: got 'out'; give a table"),
        (TuneSpec, "resources.price_per_hour=1", "command line: resources.price_per_hour is 1.0"),
    ],
)
def test_a_wrong_field_is_named_as_it_is_written(cls, override, named):
    with pytest.raises(SpecError) as error:
        load_spec(cls, None, [override])
    assert named in str(error.value)


def test_what_is_wrong_in_the_file_and_in_the_command_is_told_apart(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("seed: x\ngenerator: {num_inference_steps: 0}\n")
    with pytest.raises(SpecError) as error:
        load_spec(GenerateSpec, path, ["generator.guidance_scale=x", "thread=1"])
    in_file, in_command = str(error.value).split("; command line: ")
    assert in_file.startswith(f"{path}: ")
    assert "seed: got 'x'" in in_file
    assert "generator.num_inference_steps: got 0" in in_file
    assert "generator.guidance_scale: got 'x'" in in_command
    assert "thread: is no key" in in_command


def test_load_spec_refuses_two_ways_of_counting():
    with pytest.raises(SpecError, match="give one of the two"):
        load_spec(GenerateSpec, None, ["num_images=1", "images_per_class=1"])


def test_load_spec_reads_yaml_and_overrides_win(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("seed: 3\ngenerator: {num_inference_steps: 5, sigma_min: 1e-2}\n")
    spec = load_spec(GenerateSpec, path, ["generator.num_inference_steps=7"])
    assert spec.seed == 3
    assert spec.generator.num_inference_steps == 7
    assert spec.generator.sigma_min == 0.01


def test_an_override_into_a_default_section_changes_that_value_alone():
    changed = load_spec(
        ClassifySpec, None, ["test.num_images=100", "synthetic.synthetic.num_images=50"]
    )
    assert changed.test == ClassifySpec().test.model_copy(update={"num_images": 100})
    assert changed.synthetic["synthetic"].path == ClassifySpec().synthetic["synthetic"].path
    assert changed.real == ClassifySpec().real


def test_an_override_into_a_section_of_the_file_keeps_what_the_file_says(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("test: {path: photos}\n")
    spec = load_spec(ClassifySpec, path, ["test.num_images=100", "synthetic.more.path=more"])
    assert spec.test == SourceSpec(path="photos", num_images=100)
    assert list(spec.synthetic) == ["more"]


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_load_spec_refuses_a_file_that_holds_no_spec(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        load_spec(GenerateSpec, path)


def test_load_spec_names_a_missing_file(tmp_path):
    with pytest.raises(SpecError, match=r"none\.yaml"):
        load_spec(FitSpec, tmp_path / "none.yaml")


@given(st.dictionaries(st.text(max_size=5), st.integers()))
def test_fingerprint_ignores_the_order_of_keys(tree):
    assert fingerprint(tree) == fingerprint(dict(reversed(tree.items())))


def test_fingerprint_refuses_what_has_no_stable_form():
    with pytest.raises(TypeError):
        fingerprint({"a": object()})


def test_differences_name_each_place():
    old = {"a": 1, "b": {"c": 2, "d": 3}}
    new = {"a": 1, "b": {"c": 5, "d": 3}, "e": 4}
    assert differences(old, new) == ["b.c: 2 -> 5", "e: null -> 4"]
