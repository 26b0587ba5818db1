"""What a text-to-image model is asked for, class by class."""

import difflib
from collections.abc import Iterator
from string import Formatter

from pydantic import Field, model_validator

from factory.spec.read import Frozen

CLASS_FIELD = "class_name"
"""What stands for the class in a template, in braces."""


class Prompts(Frozen):
    """Templates with word lists, or a file of finished prompts; one prompt is drawn an image."""

    templates: tuple[str, ...] = Field(default=("a photo of a {class_name}",), min_length=1)
    """Each holds {class_name}, and may hold the names of `words` in braces."""
    words: dict[str, tuple[str, ...]] = Field(default={})
    """Name in a template -> words, one of which is drawn an image."""
    class_words: dict[str, tuple[str, ...]] = Field(default={})
    """Class -> what stands for it in a prompt, e.g. {crane: ["crane, the bird"]}; one is drawn an
    image. Classes left out stand for themselves."""
    file: str | None = None
    """Instead of all of these: YAML file of finished prompts by class, as jobs/prompts.py writes
    and people review."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Prompts":
        given = sorted(self.model_fields_set & {"templates", "words", "class_words"})
        if self.file is not None and given:
            raise ValueError(
                f"file is {self.file} and {', '.join(given)} are given too, but the prompts of a "
                "file are finished; give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> "Prompts":
        wrong = [*self._wrong_templates(), *self._wrong_lists()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_templates(self) -> Iterator[str]:
        known = [CLASS_FIELD, *self.words]
        for template in self.templates:
            try:
                fields = template_fields(template)
            except ValueError as error:
                yield f"template {template!r} cannot be read ({error}); write {{{{ for a brace"
                continue
            for name in sorted(fields - set(known)):
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {{{near[0]}}}?" if near else f"known names: {known}"
                yield f"template {template!r} holds the unknown {{{name}}}; {hint}"
            if CLASS_FIELD not in fields:
                yield f"template {template!r} does not name the class; put {{{CLASS_FIELD}}} in it"

    def _wrong_lists(self) -> Iterator[str]:
        if CLASS_FIELD in self.words:
            yield f"words holds {CLASS_FIELD}, which is the class; use class_words"
        used = {name for template in self.templates for name in readable_fields(template)}
        unused = sorted(self.words.keys() - used - {CLASS_FIELD})
        if unused:
            yield f"words holds {unused}, which no template names; put them in one, or leave out"
        for field, lists in (("words", self.words), ("class_words", self.class_words)):
            empty = sorted(name for name, list_ in lists.items() if not all(list_) or not list_)
            if empty:
                yield f"{field} gives no words, or an empty one, for {empty}"


def template_fields(template: str) -> set[str]:
    """The names in a template's braces.

    Raises:
        ValueError: if its braces do not match, or hold more than a name.
    """
    names = set()
    for _, name, layout, conversion in Formatter().parse(template):
        if name is None:
            continue
        if layout or conversion or not name.isidentifier():
            raise ValueError(f"{{{name}}} must hold a name and nothing else")
        names.add(name)
    return names


def readable_fields(template: str) -> set[str]:
    """The names in a template's braces; none where they cannot be read."""
    try:
        return template_fields(template)
    except ValueError:
        return set()
