from collections import Counter

import pytest
import yaml

from factory.prompts import draw_prompt, prompts_yaml, read_prompts, resolve_prompts
from factory.spec import GenerateSpec, Prompts, SpecError, load_spec
from factory.spec.prompts import template_fields

CLASSES = ("cat", "crane", "{odd}")


def drawn(prompts, class_name="cat", phrases=None, seeds=range(300)):
    resolved = resolve_prompts(prompts, CLASSES, phrases)
    return [draw_prompt(resolved, class_name, seed) for seed in seeds]


def refusal(tmp_path, text, **kwargs):
    file = tmp_path / "prompts.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as refused:
        resolve_prompts(Prompts(file=str(file)), CLASSES, **kwargs)
    return str(refused.value)


def spec_refusal(**fields):
    with pytest.raises(ValueError, match=r"\w") as refused:
        Prompts(**fields)
    return str(refused.value)


def test_class_stands_for_itself_whatever_its_name_holds():
    assert drawn(Prompts(), "{odd}", seeds=[0]) == ["a photo of a {odd}"]


def test_every_combination_is_drawn_about_evenly():
    prompts = Prompts(
        templates=("a {colour} {class_name}", "the {class_name}, {colour}, in {place}"),
        words={"colour": ("red", "blue"), "place": ("Rome",)},
        class_words={"cat": ("cat", "tabby")},
    )
    counts = Counter(drawn(prompts, seeds=range(800)))
    assert set(counts) == {
        text
        for word in ("cat", "tabby")
        for colour in ("red", "blue")
        for text in (f"a {colour} {word}", f"the {word}, {colour}, in Rome")
    }
    assert min(counts.values()) > 60
    assert max(counts.values()) < 140


def test_changing_one_list_moves_no_other():
    lists = {"colour": ("red", "blue"), "place": ("Rome", "Oslo", "Bern")}
    template = ("{class_name} / {colour} / {place}",)
    before = drawn(Prompts(templates=template, words=lists, class_words={"cat": ("cat", "tabby")}))
    longer = lists | {"colour": ("red", "blue", "green")}
    after = drawn(Prompts(templates=template, words=longer, class_words={"cat": ("cat", "tabby")}))
    rest = [[text.split(" / ")[::2] for text in texts] for texts in (before, after)]
    assert rest[0] == rest[1]
    assert before != after


def test_phrase_of_an_adapter_stands_for_its_class_alone():
    phrases = {"crane": "<crane>", "no class of this dataset": "<x>"}
    assert drawn(Prompts(), "crane", phrases, seeds=[0]) == ["a photo of a <crane>"]
    assert drawn(Prompts(), "cat", phrases, seeds=[0]) == ["a photo of a cat"]


def test_class_words_of_a_class_with_an_adapter_are_refused():
    words = {"crane": ("crane, the bird",)}
    with pytest.raises(SpecError, match=r"class_words: .*\['crane'\].*\['<crane>'\]"):
        resolve_prompts(Prompts(class_words=words), CLASSES, {"crane": "<crane>"})


def test_unknown_class_of_class_words_is_refused_with_the_nearest():
    words = {"Crane": ("crane, the bird",), "dog": ("dog",)}
    with pytest.raises(SpecError, match=r"\['Crane', 'dog'\].*'crane' by 'Crane'"):
        resolve_prompts(Prompts(class_words=words), CLASSES)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"templates": ("a photo",)}, ["'a photo'", "{class_name}"]),
        (
            {"templates": ("{class_nam}", "{class_name} {colour}"), "words": {"color": ("red",)}},
            ["did you mean {class_name}?", "did you mean {color}?", "['color']"],
        ),
        ({"templates": ("{class_name",)}, ["'{class_name'"]),
        ({"templates": ("{class_name!r}",)}, ["'{class_name!r}'"]),
        ({"templates": ("{class_name.upper}",)}, ["'{class_name.upper}'"]),
        ({"words": {"place": ("Rome",), "colour": ("red",)}}, ["['colour', 'place']"]),
        ({"words": {"class_name": ("cat",)}}, ["class_words"]),
        ({"class_words": {"cat": (), "dog": ("",), "ant": ("ant",)}}, ["['cat', 'dog']"]),
        ({"file": "prompts.yaml", "words": {}}, ["prompts.yaml", "words"]),
    ],
    ids=lambda value: None,
)
def test_spec_that_cannot_make_a_prompt_is_refused(fields, named):
    message = spec_refusal(**fields)
    assert [text for text in named if text not in message] == []


def test_doubled_braces_are_text():
    assert drawn(Prompts(templates=("{{{class_name}}}",)), seeds=[0]) == ["{cat}"]
    assert template_fields("{{x}}") == set()


def test_file_comes_back_as_it_was_written(tmp_path):
    prompts = {
        "no": ("a crane, the bird: grey", "yes", "'quoted' #1", "x" * 300),
        "0": ("émeu {not a name}",),
    }
    text = prompts_yaml(prompts, header="made by\n\nhand")
    assert text == prompts_yaml(prompts, header="made by\n\nhand")
    assert text.startswith("# made by\n#\n# hand\n")
    assert len(text.splitlines()) == 3 + 2 + 5
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    assert read_prompts(tmp_path / "p.yaml") == prompts


def test_prompts_of_a_file_are_drawn_as_they_are(tmp_path):
    finished = {name: (f"one {name} {{colour}}", f"two {name}") for name in CLASSES}
    file = tmp_path / "p.yaml"
    file.write_text(prompts_yaml(finished, header="x"))
    assert set(drawn(Prompts(file=str(file)), "crane")) == set(finished["crane"])


def test_resolved_prompts_hold_a_file_by_content(tmp_path):
    resolved = []
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("crane: [a]\n'{odd}': [b]\ncat: [c]\n")
        resolved.append(resolve_prompts(Prompts(file=str(tmp_path / name)), CLASSES))
    assert resolved[0].model_dump_json() == resolved[1].model_dump_json()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cat: [a]\n", ["['crane', '{odd}']"]),
        ("cat: [a]\ncrane: []\n'{odd}': [' ']\n", ["['crane', '{odd}']"]),
        ("cat: [a]\ncrane: [b]\n'{odd}': [c]\ncranes: [d]\n", ["['cranes']", "'crane'"]),
        ("cat: [yes]\ncrane: 3\n", ["['cat.0', 'crane']", "quotes"]),
        ("- a\n", ["list of texts"]),
        ("cat: [", ["is no YAML"]),
    ],
    ids=["missing", "empty", "unknown", "no texts", "no table", "no YAML"],
)
def test_file_that_does_not_fit_is_refused(tmp_path, text, named):
    message = refusal(tmp_path, text)
    assert [part for part in ("prompts.file", *named) if part not in message] == []


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"none\.yaml cannot be read"):
        resolve_prompts(Prompts(file=str(tmp_path / "none.yaml")), CLASSES)


def test_file_without_what_an_adapter_answers_to_is_refused(tmp_path):
    text = "cat: [a cat]\ncrane: [a <crane>, a bird]\n'{odd}': [b]\n"
    message = refusal(tmp_path, text, phrases={"crane": "<crane>"})
    assert "{'crane': '<crane>'}" in message


def test_refusal_names_the_place_in_the_spec(tmp_path):
    path = tmp_path / "spec.yaml"
    prompts = {"templates": ["a photo"]}
    generator = {"kind": "text_to_image", "model": "m", "prompts": prompts}
    path.write_text(yaml.safe_dump({"generator": generator}))
    with pytest.raises(SpecError, match=r"generator\.prompts: .*'a photo'"):
        load_spec(GenerateSpec, path)
