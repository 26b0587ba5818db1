"""The card of a published dataset: README.md, with what the Hub reads and what people read."""

from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from factory.images import mark_of
from factory.pages.page import percent_in_words
from factory.publish import tables, words
from factory.publish.columns import column_rows
from factory.publish.facts import SHEET_NAME, Facts
from factory.publish.front_matter import front_matter, title
from factory.publish.limits import limits
from factory.publish.loading import (
    load_snippet,
    merged_revision,
    stream_snippet,
    tar_snippet,
    verify_command,
)
from factory.publish.markdown import code, fenced, paragraphs, table, text
from factory.publish.references import references
from factory.shards.manifest import Manifest
from factory.spec import PublishSpec

CARD_NAME = "README.md"
MOST_LISTED = 20
"""Classes that have a line of a table each."""
MOST_PROMPTS = 3
"""Prompts of a class that are shown."""


def make_card(facts: Facts, manifest: Manifest, spec: PublishSpec) -> str:
    """README.md of a repository; the same arguments give the same text.

    Args:
        facts: of the root.
        manifest: what the repository holds, the root's config first.
        spec: what is published, and what its publisher says of it.
    """
    front = front_matter(facts, manifest, spec).to_yaml()
    values = _loading(manifest, spec) | _making(facts) | _measuring(facts)
    body = (
        _environment()
        .get_template("card.md.jinja")
        .render(
            facts=facts,
            manifest=manifest,
            spec=spec,
            title=title(facts, spec),
            sheet=SHEET_NAME,
            words=words,
            limits=limits(facts),
            licences=tables.licence_rows(facts, spec),
            references=references(facts),
            **values,
        )
    )
    return f"---\n{front}\n---\n\n{body}"


def _environment() -> Environment:
    """Whatever a template shows is plain text, unless a filter has made Markdown of it."""
    environment = Environment(
        loader=PackageLoader("factory.publish", ""),
        # Passes what `text` returns, which is escaped for Markdown and HTML alike.
        autoescape=True,
        finalize=text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": code,
        "count": "{:,}".format,
        "fenced": fenced,
        "joined": tables.joined,
        "megabytes": tables.megabytes,
        "paragraphs": paragraphs,
        "percent": percent_in_words,
        "table": table,
    }
    return environment


def _loading(manifest: Manifest, spec: PublishSpec) -> dict[str, Any]:
    root, *others = manifest.configs
    is_tar = root.format == "webdataset"
    revision = merged_revision(spec)
    names = {config.name: words.config_in_words(spec.more[config.name]) for config in others}
    return {
        "root": root,
        "columns": column_rows(root.features),
        "load": load_snippet(spec.repo_id, root, revision),
        "stream": stream_snippet(spec.repo_id, root, revision),
        "tar": tar_snippet(spec.repo_id, root, revision) if is_tar and spec.repo_id else None,
        "verify": verify_command(spec.repo_id, revision) if spec.repo_id else None,
        "configs": [
            (
                code(config.name),
                f"{config.num_images:,}",
                f"{config.num_synthetic:,}",
                f"{config.num_real:,}",
                names.get(
                    config.name, "what this page describes, and what is loaded without a name"
                ),
            )
            for config in manifest.configs
        ],
    }


def _making(facts: Facts) -> dict[str, Any]:
    pins = facts.pins.get("filters", ())
    counts = set(facts.class_counts.values())
    return {
        "classes": tables.class_rows(facts),
        "most_listed": MOST_LISTED,
        "equal_count": counts.pop() if len(counts) == 1 else None,
        "settings": list(words.settings(facts).items()),
        "filters": [
            words.filter_in_words(*both) for both in zip(facts.spec.filters, pins, strict=True)
        ],
        "prompts": _prompt_rows(facts),
        "rejections": tables.rejection_rows(facts),
        "pinned": tables.pinned_rows(facts),
        "mark": mark_of(is_reconstructed=facts.spec.reconstruct is not None),
        "spec_yaml": yaml.safe_dump(facts.again, sort_keys=False, allow_unicode=True),
    }


def _measuring(facts: Facts) -> dict[str, Any]:
    evaluation, classification = facts.evaluation, facts.classification
    return {
        "evaluation": evaluation,
        "fidelity": [] if evaluation is None else tables.fidelity_rows(evaluation),
        "compared": [] if evaluation is None else tables.compared_rows(evaluation),
        "classification": classification,
        "arms": [] if classification is None else tables.arm_rows(classification),
    }


def _prompt_rows(facts: Facts) -> list[tuple[str, str]]:
    """Class -> what stands for it in a prompt, or the first of its finished prompts."""
    if facts.prompts is None:
        return []
    shown = facts.prompts.finished or facts.prompts.class_words
    some = list(shown.items())[:MOST_LISTED]
    return [(name, "; ".join(prompts[:MOST_PROMPTS])) for name, prompts in some]
