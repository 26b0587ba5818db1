"""The card is read back as it was meant: by the Hub's client, by `datasets`, and by people."""

import contextlib
import io
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard

from factory.mapping import FineLabel, ResolvedMapping
from factory.prompts import ResolvedPrompts
from factory.publish import manifest as manifests
from factory.publish.card import make_card
from factory.publish.columns import MEANINGS
from factory.publish.facts import Facts, Seen, gather_facts
from factory.publish.front_matter import size_category
from factory.publish.measured import Estimate
from factory.records import read_root
from factory.shards.manifest import Manifest, PublishedConfig, PublishedFile
from factory.shards.parquet import COLUMNS
from factory.shards.sample import PROVENANCE
from factory.sources.promise import open_dataset
from factory.spec import GenerateSpec, PublishSpec
from factory.store import Store
from tests.conftest import CLASS_NAMES, save_tiny_model
from tests.datasets import make_dataset
from tests.publish.reading import GITHUB, HOSTILE, one_line, shown
from tests.publish.reports import make_classification, make_evaluation, put_results

GIVEN = {"licence": "cc-by-4.0", "source_licence": "mit", "model_licence": "mit"}


class Published:
    """A root with the manifest of its publication."""

    def __init__(self, root: Path, **fields: Any) -> None:
        self.root = root
        self.spec = PublishSpec.model_validate(
            {"root": str(root), "evaluate": None, "repo_id": "acme/drawn_things"} | GIVEN | fields
        )
        store = Store(str(root))
        root_spec = read_root(store)
        opened = open_dataset(str(root))
        records = opened.inventory.records
        self.facts = gather_facts(self.spec, store, records, opened.dataset.plan)
        config = manifests.root_config(
            self.spec.config,
            list(records.values()),
            root_spec.identity["class_names"],
            num_synthetic=self.facts.num_images,
            first=store.get(next(iter(records.values())).file),
        )
        self.manifest = manifests.make_manifest(root_spec, records.values(), [config])

    def card(self, **fields: Any) -> str:
        """The card; `fields` are facts that are other ones."""
        facts = self.facts.model_copy(update=fields)
        return make_card(facts, self.manifest, self.spec)


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("cards") / "root"
    make_dataset(folder, tiny_model)
    (folder / "contact-sheet.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def measured(root, tmp_path_factory):
    """A root with results of evaluate and of classify."""
    results = tmp_path_factory.mktemp("results")
    evaluation = put_results(results / "evaluate", make_evaluation(root), synthetic=root)
    report = make_classification(root, results / "trials")
    classification = put_results(results / "classify", report, synthetic=root)
    return Published(root, evaluate=str(evaluation), classify=str(classification))


def parse(card: str):
    """The parts of a card's body."""
    return GITHUB.parse(DatasetCard(card).text)


def headings(card: str) -> list[str]:
    tokens = parse(card)
    places = [place for place, token in enumerate(tokens) if token.type == "heading_open"]
    return [f"{tokens[place].tag} {shown(tokens[place + 1])}" for place in places]


def tables(card: str) -> Iterator[list[list[str]]]:
    """The rows of each table, its header first."""
    rows: list[list[str]] = []
    for before, token in zip(parse(card), parse(card)[1:], strict=False):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif before.type in ("td_open", "th_open"):
            rows[-1].append(shown(token))
        elif token.type == "table_close":
            yield rows


def table_of(card: str, *columns: str) -> list[list[str]]:
    return next(rows[1:] for rows in tables(card) if set(columns) <= set(rows[0]))


def html_in(card: str) -> list[str]:
    """Pieces of HTML that the Markdown holds."""
    tokens = [child for token in parse(card) for child in (token, *(token.children or ()))]
    return [token.content.strip() for token in tokens if token.type.startswith("html")]


# --- what the Hub and `datasets` read


def test_front_matter_is_read_back_as_the_facts(root):
    published = Published(root, title="Things: drawn")
    config = published.manifest.configs[0]
    data = DatasetCard(published.card()).data.to_dict()
    assert data == yaml.safe_load(published.card().split("---\n")[1])
    assert data["pretty_name"] == "Things: drawn"
    assert (data["license"], data["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert data["task_categories"] == ["image-classification"]
    assert {"synthetic", "diffusion", "edm", "factory"} <= set(data["tags"])
    assert data["configs"] == [
        {
            "config_name": "synthetic",
            "data_files": [{"split": "train", "path": config.data_glob}],
            "default": True,
        }
    ]
    (about,) = data["dataset_info"]
    num_bytes = sum(path.stat().st_size for path in root.glob("data/*"))
    split = {"name": "train", "num_bytes": num_bytes, "num_examples": config.num_images}
    assert (about["splits"], about["download_size"]) == ([split], num_bytes)


def test_licence_is_left_out_where_none_is_given(root):
    assert "license" not in DatasetCard(Published(root, licence=None).card()).data.to_dict()


def test_each_config_has_its_files_and_the_licences_of_real_ones_are_named(root):
    more = {
        "photos": {"kind": "real", "source": {}, "licence": "odbl"},
        "half": {"kind": "mix", "real": "photos", "mix": {"kind": "replace", "fraction": 0.25}},
    }
    published = Published(root, more=more)
    first = published.manifest.configs[0]
    others = [
        first.model_copy(update={"name": name, "kind": kind, "data_glob": f"data/{name}/*.parquet"})
        for name, kind in (("photos", "real"), ("half", "mix"))
    ]
    published.manifest = published.manifest.model_copy(update={"configs": (first, *others)})
    card = published.card()
    data = DatasetCard(card).data.to_dict()
    assert data["license"] == ["cc-by-4.0", "odbl"]
    assert [config["config_name"] for config in data["configs"]] == ["synthetic", "photos", "half"]
    assert [config.get("default", False) for config in data["configs"]] == [True, False, False]
    assert len(data["dataset_info"]) == 3
    words = {row[0]: row[-1] for row in table_of(card, "config", "synthetic", "real")}
    assert [name for name, what in words.items() if "loaded without a name" in what] == [
        "synthetic"
    ]
    assert words["half"] == "images of photos and synthetic ones: replace (fraction 0.25)"


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_datasets_loads_what_the_card_says_and_its_lines_run(
    tmp_path, tiny_model, monkeypatch, form
):
    import datasets

    make_dataset(tmp_path / "root", tiny_model, output={"format": form})
    published = Published(tmp_path / "root", repo_id=None)
    for file in published.manifest.files:
        target = tmp_path / "repo" / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next((tmp_path / "root").glob(f"data/{target.name}")), target)
    readme = tmp_path / "repo" / "README.md"
    readme.write_text(published.card())
    loaded = datasets.load_dataset(
        str(tmp_path / "repo"), "synthetic", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded, datasets.Dataset)
    label = loaded.features["label" if form == "parquet" else "cls"]
    assert label.names == list(published.facts.class_counts)
    assert len(loaded) == published.facts.num_images
    written = DatasetCard(published.card()).data.to_dict()["dataset_info"][0]["features"]
    assert written == loaded.features._to_yaml_list()
    # With a single config its name may be left out.
    plain = datasets.load_dataset(
        str(tmp_path / "repo"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert (plain.config_name, len(plain)) == ("synthetic", len(loaded))
    readme.unlink()
    monkeypatch.chdir(readme.parent)
    with contextlib.redirect_stdout(io.StringIO()) as shown_lines:
        exec("\n".join(re.findall(r"```python\n(.*?)```", published.card(), re.DOTALL)), {})
    names = [line.rpartition(" ")[2] for line in shown_lines.getvalue().splitlines()]
    assert names == ["cat", "cat", "dog", "T-shirt/top"]


def test_lines_for_tars_name_the_repository_and_its_folder(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=3, output={"format": "webdataset"})
    card = Published(tmp_path / "root", config="tars").card()
    lines = next(
        block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "urls" in block
    )
    assert 'repo_id = "acme/drawn_things"' in lines
    assert 'file.startswith("data/tars/")' in lines
    compile(lines, "card", "exec")


@pytest.mark.parametrize(
    ("revision", "argument", "word"),
    [
        (None, "", ""),
        ("main", "", ""),
        ("refs/pr/3", "", ""),
        ("next", ', revision="next"', " revision=next"),
        ('a"b', ', revision="a\\"b"', " 'revision=a\"b'"),
    ],
)
def test_all_lines_of_a_card_name_the_branch_that_holds_it(
    tmp_path, tiny_model, revision, argument, word
):
    make_dataset(tmp_path / "root", tiny_model, num_images=3, output={"format": "webdataset"})
    card = Published(tmp_path / "root", revision=revision).card()
    assert card.count(f'load_dataset("acme/drawn_things", "synthetic"{argument}, split=') == 2
    assert f'list_repo_files(repo_id, repo_type="dataset"{argument})' in card
    assert f'hf_hub_url(repo_id, file, repo_type="dataset"{argument})' in card
    assert f"jobs/verify.py hub:acme/drawn_things{word}\n" in card
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        compile(block, "card", "exec")


@pytest.mark.parametrize(
    ("count", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (60_000, "10K<n<100K"),
        (999_999, "100K<n<1M"),
        (10**9, "100M<n<1B"),
    ],
)
def test_size_category_is_the_hubs(count, category):
    assert size_category(count) == category


# --- text that others wrote


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    model = save_tiny_model(folder / "model", class_names=HOSTILE)
    make_dataset(folder / "root", model, num_images=2 * len(HOSTILE))
    return folder / "root"


def test_hostile_class_names_stay_text(hostile):
    card = Published(hostile).card()
    rows = table_of(card, "label", "class", "images")
    assert [row[1] for row in rows] == [one_line(name) for name in HOSTILE]
    assert {row[2] for row in rows} == {"2"}
    assert html_in(card) == []
    (about,) = DatasetCard(card).data.to_dict()["dataset_info"]
    names = about["features"][1]["dtype"]["class_label"]["names"]
    assert tuple(names.values()) == HOSTILE


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_said_of_a_dataset_stays_text(root, name):
    plain = Published(root)
    fields = dict.fromkeys(("title", "description", "limits", "model_licence"), name)
    published = Published(root, **fields)
    card = published.card(
        seen=(Seen(name=name, split=name, num_images=5, digest="ab" * 32),),
        model=plain.facts.model.model_copy(update={"name": name}),
    )
    before, after = headings(plain.card()), headings(card)
    assert (after[0], after[1:]) == (f"h1 {one_line(name)}", before[1:])
    assert html_in(card) == []
    assert DatasetCard(card).data.to_dict()["pretty_name"] == one_line(name)
    paragraphs = [shown(token) for token in parse(card) if token.type == "inline"]
    assert paragraphs.count(one_line(name)) >= 3


def test_paragraphs_of_a_description_stay_apart(root):
    card = Published(root, description="First *one*.\nGoes on.\n\n\nSecond.").card()
    paragraphs = [shown(token) for token in parse(card) if token.type == "inline"]
    assert {"First *one*. Goes on.", "Second."} <= set(paragraphs)


# --- what people read


def assert_whole(card: str) -> None:
    """No section without content, nothing left open, nothing that a program would say."""
    tokens = [t for t in parse(card) if not t.hidden]
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%|TODO|N/A|Markup", DatasetCard(card).text)
    for token, after in zip(tokens, [*tokens[3:], None], strict=False):
        if token.type == "heading_open":
            assert after is not None
            assert after.type != "heading_open"
    for rows in tables(card):
        assert len(rows) > 1
        assert all(any(cell for cell in row) for row in rows)


def test_card_without_reports_says_what_was_not_measured(root):
    card = Published(root).card()
    assert_whole(card)
    assert card.count("Not measured:") == 2
    assert "Not checked:" in card
    assert "FID" not in card
    assert "contact-sheet.png" in card


@pytest.mark.parametrize("reports", [("evaluate",), ("classify",), ("evaluate", "classify")])
def test_card_shows_the_reports_that_there_are(measured, reports):
    given = {name: getattr(measured.spec, name) for name in reports}
    published = Published(measured.root, **given)
    card = published.card()
    assert_whole(card)
    assert card.count("Not measured:") == 2 - len(reports)
    evaluation, classification = published.facts.evaluation, published.facts.classification
    if evaluation is not None:
        assert evaluation.report_sha256 in card
        rows = dict(row[:2] for row in table_of(card, "these images", "held-out real images"))
        assert rows["Precision: share of them that lie among real images"] == "66.0\u00a0%"
    if classification is not None:
        assert classification.report_sha256 in card
        rows = {row[0]: row for row in table_of(card, "trained on", "trainings")}
        hurts = next(row for name, row in rows.items() if name.startswith("drawn"))
        assert hurts[-1].startswith("hurts: \u2212")
        assert len(rows) == 3


def test_what_is_bad_is_said_among_the_limits(measured):
    card = measured.card()
    limits = card[card.index("## Limits") : card.index("## How they were made")]
    assert "Part of the variety of real images is missing: recall 14.4" in limits
    assert "A classifier of real images does not see 34.0" in limits
    assert "points less accurate than one trained on" in limits


def test_only_classes_below_the_mean_are_called_the_worst(measured):
    evaluation = measured.facts.evaluation
    shares = dict(zip(CLASS_NAMES, (0.8, 0.3, 0.6), strict=True))
    seen = evaluation.found.classifier.model_copy(
        update={
            "agreement": Estimate(value=0.61),
            "per_class_agreement": {n: Estimate(value=share) for n, share in shares.items()},
        }
    )
    found = evaluation.found.model_copy(update={"classifier": seen})
    card = measured.card(evaluation=evaluation.model_copy(update={"found": found}))
    assert "it sees fewest: dog 30.0\u00a0%, T-shirt/top 60.0\u00a0%.\n" in card


def test_good_images_have_no_such_limits(root, tmp_path):
    report = make_evaluation(root, quality=1.0)
    folder = put_results(tmp_path / "evaluate", report, synthetic=root)
    card = Published(root, evaluate=str(folder)).card()
    limits = card[card.index("## Limits") : card.index("## How they were made")]
    assert "variety" not in limits
    assert "look like no real one" not in limits


@pytest.mark.parametrize("has_held_out", [True, False])
@pytest.mark.parametrize("per_class", [True, False])
def test_evaluation_without_labels_or_held_out_images(root, tmp_path, has_held_out, per_class):
    report = make_evaluation(root, has_held_out=has_held_out, per_class=per_class)
    folder = put_results(tmp_path / "evaluate", report, synthetic=root)
    card = Published(root, evaluate=str(folder)).card()
    assert_whole(card)
    assert ("Not checked: there are no held-out images" in card) == (not has_held_out)
    assert ("seen as labelled by a classifier" in card) == per_class


@pytest.mark.parametrize(
    ("verdict", "num_exact", "words"),
    [
        ("copies", 0, "Copies were found: 1.1"),
        ("no evidence", 3, "Copies were found: 1.1"),
        ("no evidence", 0, "No evidence of copies: 1.1"),
    ],
)
def test_copies_are_told(measured, verdict, num_exact, words):
    evaluation = measured.facts.evaluation
    update = {"verdict": verdict, "num_exact": num_exact}
    memorised = evaluation.found.memorisation.model_copy(update=update)
    found = evaluation.found.model_copy(update={"memorisation": memorised})
    card = measured.card(evaluation=evaluation.model_copy(update={"found": found}))
    assert words in card
    assert ("3 images have the very pixels of a training image" in card) == (num_exact == 3)


def test_hundred_classes_take_a_folded_table(tmp_path):
    names = tuple(f"class {number}" for number in range(100))
    model = save_tiny_model(tmp_path / "model", class_names=names)
    make_dataset(tmp_path / "root", model, num_images=150)
    card = Published(tmp_path / "root").card()
    assert_whole(card)
    assert "100 classes of 1 to 2 images" in card
    assert html_in(card) == ["<details>\n<summary>All of them</summary>", "</details>"]
    rows = table_of(card, "label", "class", "images")
    assert [row[1] for row in rows] == list(names)
    assert card.index("<details>") < card.index("class 99 |") < card.index("</details>")


def asked(facts: Facts, **fields: Any) -> dict[str, Any]:
    """Facts of a root that was asked for otherwise."""
    spec = GenerateSpec.model_validate(facts.spec.model_dump(exclude_unset=True) | fields)
    return {"spec": spec}


def test_text_to_image_root_shows_templates_words_and_adapters(root):
    published = Published(root)
    facts = published.facts
    prompts = ResolvedPrompts(
        templates=("a {style} of a {class_name}", "<b>{class_name}</b> | `x`"),
        words={"style": ("photo", "sk*etch*")},
        class_words={name: (f"<{name}>", "b", "c", "d") for name in CLASS_NAMES},
    )
    generator = {"kind": "text_to_image", "model": "acme/net", "guidance_scale": 6.5}
    pins = {**facts.pins, "generator": {"adapters": dict.fromkeys(CLASS_NAMES, "ab" * 32)}}
    model = facts.model.model_copy(
        update={"hub_id": "acme/net", "digest": "c" * 40, "adapter_kinds": ("lora",)}
    )
    fields = asked(facts, generator=generator)
    card = published.card(**fields, prompts=prompts, pins=pins, model=model)
    assert_whole(card)
    lines = [shown(token) for token in parse(card) if token.type == "inline"]
    assert {"a {style} of a {class_name}", "<b>{class_name}</b> | `x`"} <= set(lines)
    assert "where {style} is one of: photo, sk*etch*" in lines
    called = {row[0]: row[1] for row in table_of(card, "called in a prompt, for example")}
    assert called == {name: f"<{name}>; b; c" for name in CLASS_NAMES}
    assert "For 3 classes the model wore an adapter (lora)" in card
    assert "[acme/net](https://huggingface.co/acme/net)" in card
    assert "DreamBooth" in card
    assert "Textual Inversion" not in card
    assert html_in(card) == []


def test_setting_that_is_0_is_shown_and_one_that_is_off_is_not(root):
    published = Published(root)
    generator = {"kind": "text_to_image", "model": "acme/net", "guidance_scale": 0}
    fields = asked(published.facts, generator=generator)
    card = published.card(**fields, prompts=ResolvedPrompts(finished={"cat": ("a cat",)}))
    settings = dict(table_of(card, "setting", "value"))
    assert settings["guidance_scale"] == "0.0"
    assert not {"", "False"} & set(settings.values())


def test_finished_prompts_are_shown_a_few_of_each_class(root):
    published = Published(root)
    finished = {name: tuple(f"{name} no. {n}" for n in range(9)) for name in CLASS_NAMES}
    fields = asked(published.facts, generator={"kind": "text_to_image", "model": "acme/net"})
    card = published.card(**fields, prompts=ResolvedPrompts(finished=finished))
    assert_whole(card)
    prompts = {row[0]: row[1] for row in table_of(card, "prompts")}
    assert prompts["cat"] == "cat no. 0; cat no. 1; cat no. 2"


def test_mapped_root_shows_the_classes_of_the_model(root):
    published = Published(root)
    fine = (FineLabel(label=555, name="fire engine, fire truck", weight=2),)
    mapping = ResolvedMapping(classes=dict.fromkeys(CLASS_NAMES, fine))
    generator = {"kind": "dit", "model": "acme/dit", "mapping": {"cat": [{"name": "fire engine"}]}}
    card = published.card(**asked(published.facts, generator=generator), mapping=mapping)
    assert_whole(card)
    assert "fire engine, fire truck (2)" in card


def test_reconstruction_says_what_its_images_are(root):
    published = Published(root)
    reconstruct = {"source": {"path": "photos"}, "t_re": [1, 2]}
    pins = published.facts.pins | {
        "reconstruct": {"digest": "ab" * 32, "class_counts": dict.fromkeys(CLASS_NAMES, 7)}
    }
    fields = asked(published.facts, reconstruct=reconstruct, num_images=None)
    card = published.card(**fields, pins=pins)
    assert_whole(card)
    assert "drawn from one of 21 real ones" in card
    assert "noised to t_re 1 to 2 of 3 steps" in card
    assert "compositeWithTrainedAlgorithmicMedia" in card
    assert "photograph" not in card
    assert "Yamaguchi (2024)" in card
    assert DatasetCard(card).data.to_dict()["source_datasets"] == ["extended"]


def test_filters_and_what_they_rejected_are_told(tmp_path, tiny_model):
    filters = [{"kind": "contrast", "min_deviation": 71}, {"kind": "duplicate"}]
    make_dataset(tmp_path / "root", tiny_model, num_images=12, filters=filters)
    published = Published(tmp_path / "root")
    card = published.card()
    assert_whole(card)
    yields = published.facts.yields
    rejected = {row[0]: row[-1] for row in table_of(card, "reason", "what it means")}
    assert rejected == {reason: str(count) for reason, count in yields.rejected.items()}
    drawn = {row[1]: row[3] for row in table_of(card, "class", "drawn for each one kept")}
    assert drawn == {name: f"{n / 4:.2f}" for name, n in yields.candidates_by_class.items()}
    assert "deviate by less than 71 of 255" in card


def test_no_path_of_this_machine_and_no_root_lies_in_a_card(measured, tmp_path):
    card = measured.card()
    assert str(measured.root.parent) not in card
    assert "/tmp" not in card
    assert str(Path.home()) not in card


def test_card_tells_strangers_what_each_column_means(root, tmp_path, tiny_model):
    card = Published(root).card()
    columns = [row[0] for row in table_of(card, "column", "what it says of an image")]
    assert columns == list(Published(root).manifest.configs[0].features)
    make_dataset(tmp_path / "root", tiny_model, num_images=3, output={"format": "webdataset"})
    rows = table_of(Published(tmp_path / "root").card(), "column", "what it says of an image")
    assert {"__key__", "cls", "json.candidate", "png"} <= {row[0] for row in rows}
    assert MEANINGS.keys() == {*COLUMNS, *PROVENANCE, "png", "cls", "__key__", "__url__"}


def test_dataset_without_a_name_is_called_after_its_generator(root):
    published = Published(root)
    assert headings(published.card(name="synthetic"))[0] == "h1 Synthetic images by tiny"
    assert headings(published.card(name="clothes"))[0] == "h1 clothes"


def test_remedies_for_whoever_measured_are_kept_from_readers(measured):
    evaluation = measured.facts.evaluation
    update = {"verdict": "not checked", "reason": "it saw others; name all in memorisation.seen"}
    memorised = evaluation.found.memorisation.model_copy(update=update)
    found = evaluation.found.model_copy(update={"memorisation": memorised})
    card = measured.card(evaluation=evaluation.model_copy(update={"found": found}))
    assert "Not checked: it saw others." in card
    assert "memorisation.seen" not in card


def test_licence_that_the_hub_does_not_list_is_named_and_linked(root):
    named = {"licence_name": "house-1.0", "licence_link": "https://example.org/house"}
    card = Published(root, licence="other", **named).card()
    data = DatasetCard(card).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "house-1.0")
    assert data["license_link"] == "https://example.org/house"
    assert dict(table_of(card, "what", "licence"))["these images"].startswith("house-1.0, see")


# --- every number comes from somewhere

STATED = {50, 1000}
"""Chance, and the factor that a kernel distance is shown with."""


def numbers_of(value: object) -> Iterator[float]:
    """All numbers in facts: values, counts of lists, digits within texts."""
    match value:
        case bool() | None:
            return
        case int() | float():
            yield float(value)
        case str():
            yield from (float(found) for found in re.findall(r"\d+(?:\.\d+)?", value))
        case dict():
            yield float(len(value))
            for name, item in value.items():
                yield from numbers_of(name)
                yield from numbers_of(item)
        case list() | tuple():
            yield float(len(value))
            for item in value:
                yield from numbers_of(item)


def is_shown(text_: str, known: set[float]) -> bool:
    """Whether a number in a card is a known one, rounded: as it is, or as a percentage, ..."""
    number, decimals = float(text_.replace(",", "")), len(text_.partition(".")[2])
    half = 0.5001 * 10.0**-decimals
    ways = (1, 100, 1000, 1e-3, 1e-6, -100)
    return any(abs(way * value - number) <= half for value in known for way in ways)


def unknown_numbers(card: str, published: Published) -> list[str]:
    """Numbers in a card that are none of the facts, nor follow from them."""
    facts = published.facts
    evaluation, classification = facts.evaluation, facts.classification
    assert evaluation is not None
    assert classification is not None
    body = DatasetCard(card).text.split("## References")[0]
    body = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL).replace("sha256", "")
    known = {*STATED, *numbers_of(facts.model_dump(mode="json"))}
    known |= {*numbers_of(published.manifest.model_dump(mode="json"))}
    known |= {sum(device.seconds.values()) / 3600 for device in facts.devices}
    known |= {sum(arm.real_counts.values()) for arm in classification.arms.values()}
    known |= {sum(arm.synthetic_counts.values()) for arm in classification.arms.values()}
    known |= {1 - evaluation.found.classifier.agreement.value}
    # A gap that would have been found is rounded up.
    gaps = [verdict.overall.detectable for verdict in classification.verdicts]
    known |= {math.ceil(1000 * gap) / 1000 for gap in gaps if gap}
    shown_numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", body)
    assert len(shown_numbers) > 80
    return [found for found in shown_numbers if not is_shown(found.rstrip(","), known)]


def test_every_number_of_a_card_is_one_of_its_facts(measured):
    assert unknown_numbers(measured.card(), measured) == []


def test_number_that_is_no_fact_would_be_noticed(measured):
    evaluation = measured.facts.evaluation
    real = evaluation.real.model_copy(update={"num_images": 76_543})
    card = measured.card(evaluation=evaluation.model_copy(update={"real": real}))
    assert unknown_numbers(card, measured) == ["76,543"]


def test_card_is_the_same_whenever_it_is_made(measured):
    assert measured.card() == measured.card()


def test_manifest_of_another_root_config_is_what_loading_names(root):
    published = Published(root, config="drawn")
    config = PublishedConfig(
        name="drawn",
        kind="root",
        files=(PublishedFile(path="data/drawn/a.parquet", sha256="0", num_bytes=9, num_samples=1),),
        num_images=1,
        class_names=("cat",),
        class_counts={"cat": 1},
        num_synthetic=1,
        num_real=0,
        features={"image": {"_type": "Image"}},
        format="parquet",
        data_glob="data/drawn/*.parquet",
    )
    manifest = Manifest(
        name="x", fingerprint="0" * 12, configs=(config,), merkle_root="f" * 64, versions={}
    )
    card = make_card(published.facts, manifest, published.spec)
    assert 'load_dataset("acme/drawn_things", "drawn", split="train")' in card
    assert "jobs/verify.py hub:acme/drawn_things" in card
    assert "f" * 64 in card
