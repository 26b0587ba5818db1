import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from factory.prompts import read_prompts
from factory.spec import JobError, SpecError, WritePromptsSpec, load_spec
from factory.write_prompts.prepare import dry_run, prepare
from factory.write_prompts.run import clean, run
from tests.write_prompts.conftest import save_tiny_language_model

JOBS = Path(__file__).parents[2] / "jobs"


def spec(model: Path, folder: Path, **fields) -> WritePromptsSpec:
    given = {
        "model": str(model),
        "class_names": ("cat", "dog"),
        "prompts_per_class": 4,
        "batch_size": 3,
        "output": str(folder / "prompts.yaml"),
    }
    return WritePromptsSpec.model_validate(given | fields)


def written(model: Path, folder: Path, **fields) -> dict[str, tuple[str, ...]]:
    folder.mkdir(exist_ok=True)
    return read_prompts(run(prepare(spec(model, folder, **fields))).file)


def test_file_holds_the_asked_number_of_different_prompts_of_each_class(language_model, tmp_path):
    report = run(prepare(spec(language_model, tmp_path)))
    prompts = read_prompts(report.file)
    assert list(prompts) == ["cat", "dog"]
    assert [len(set(texts)) for texts in prompts.values()] == [4, 4]
    assert all(text == clean(text) != "" for texts in prompts.values() for text in texts)
    assert report.num_prompts == 8
    assert min(report.answers.values()) >= 4
    header = [line for line in Path(report.file).read_text().splitlines() if line.startswith("#")]
    assert "REVIEW ME" in header[0]
    assert f"# digest: {report.model_digest}" in header
    assert "# temperature: 0.99" in header
    assert str(tmp_path) not in "".join(header)
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.yaml"]


def test_same_settings_give_the_same_bytes(language_model, tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(files))
        files.append(run(prepare(spec(language_model, tmp_path / name))).file)
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()


def test_more_prompts_keep_the_first_and_other_classes_move_none(language_model, tmp_path):
    few = written(language_model, tmp_path / "few")
    more = written(
        language_model, tmp_path / "more", prompts_per_class=7, class_names=("horse", "cat")
    )
    assert more["cat"][:4] == few["cat"]
    other = written(language_model, tmp_path / "other", seed=1)
    assert set(other["cat"]).isdisjoint(few["cat"])


def test_answer_becomes_one_line():
    assert clean(" \n\n  A  cat,\tasleep \n\nA dog\n") == "A cat, asleep"
    assert clean("caf\ufffd") == "caf"
    assert clean("\n \x07\ufffd\n") == ""


def test_class_that_gives_too_few_prompts_fails_with_its_yield(language_model, tmp_path):
    # So cold a model always gives the same answer to a question, and there are two questions.
    templates = ("A {class_name}:", "The {class_name}:")
    cold = spec(
        language_model,
        tmp_path,
        templates=templates,
        temperature=1e-4,
        max_answers_per_prompt=3,
    )
    with pytest.raises(JobError, match=r"'cat': '[12] of 12 answers', 'dog': '[12] of 12 answers'"):
        run(prepare(cold))
    assert list(tmp_path.iterdir()) == []


def test_file_from_the_same_settings_is_left_as_it_was_reviewed(language_model, tmp_path):
    asked = spec(language_model, tmp_path)
    file = Path(run(prepare(asked)).file)
    reviewed = file.read_text().replace("cat:", "cat:\n- a cat that I saw")
    file.write_text(reviewed)
    report = run(prepare(asked))
    assert not report.written
    assert file.read_text() == reviewed


@pytest.mark.parametrize("text", ["cat: [a cat]\n", "# fingerprint: 0123456789ab\ncat: [a]\n"])
def test_other_file_is_never_written_over(language_model, tmp_path, text):
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"output: .*prompts\.yaml is there, from"):
        prepare(spec(language_model, tmp_path))
    assert (tmp_path / "prompts.yaml").read_text() == text


def test_dry_run_writes_nothing(language_model, tmp_path):
    report = dry_run(prepare(spec(language_model, tmp_path)))
    assert (report.num_prompts, report.most_answers, report.is_written) == (8, 160, False)
    assert report.model == "tiny-gpt"
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_names_what_the_prompts_depend_on(language_model, tmp_path):
    def of(model=language_model, **fields):
        return prepare(spec(model, tmp_path, **fields)).fingerprint

    (tmp_path / "elsewhere").mkdir()
    assert of() == of(output=str(tmp_path / "elsewhere" / "p.yaml"))
    other_model = save_tiny_language_model(tmp_path / "other", seed=1)
    changed = [of(seed=1), of(batch_size=4), of(temperature=1.0), of(other_model)]
    assert len({of(), *changed}) == 5


def test_model_that_cannot_be_had_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(SpecError, match=r"model: no/such cannot|model: no/such is no folder.*give"):
        prepare(spec(Path("no/such"), tmp_path))


def test_model_without_its_tokenizer_is_refused(tmp_path):
    model = save_tiny_language_model(tmp_path / "model", with_tokenizer=False)
    with pytest.raises(SpecError, match="model: "):
        run(prepare(spec(model, tmp_path)))


def test_folder_that_is_not_there_is_refused(language_model, tmp_path):
    with pytest.raises(SpecError, match=r"output: .*gone is no folder"):
        prepare(spec(language_model, tmp_path / "gone"))


@pytest.mark.parametrize("template", ["a cat", "a {class_name} in {place}", "a {class_name"])
def test_template_that_does_not_name_the_class_alone_is_refused(tmp_path, template):
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps({"model": "m", "class_names": ["cat"], "templates": [template]}))
    with pytest.raises(SpecError, match=r"templates .* must hold \{class_name\}"):
        load_spec(WritePromptsSpec, file)


def test_job_without_arguments_asks_as_the_paper_did():
    shipped = load_spec(WritePromptsSpec, JOBS / "specs" / "prompts_namburi2022.yaml")
    assert shipped.templates == WritePromptsSpec(model="m", class_names=("a",)).templates
    assert (shipped.temperature, shipped.max_new_tokens, len(shipped.class_names)) == (0.99, 20, 10)


def test_job_prints_its_report_and_refuses_a_root(language_model, tmp_path, monkeypatch, capsys):
    words = [f"model={language_model}", "class_names=[cat]", "prompts_per_class=2"]

    def job(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prompts.py", *words, *more])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(JOBS / "prompts.py"), run_name="__main__")
        return int(str(stop.value.code))

    assert job(f"output={tmp_path}/p.yaml") == 0
    assert json.loads(capsys.readouterr().out)["num_prompts"] == 2
    assert len(read_prompts(tmp_path / "p.yaml")["cat"]) == 2
    assert job(f"output={tmp_path}/q.yaml", "--root", "x") == 2
    assert "--root" in capsys.readouterr().err
    assert not (tmp_path / "q.yaml").exists()
