"""Prompts of a text-to-image dataset: pinned with the spec, drawn by seed, kept in files."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from factory.seeds import hash_seed
from factory.spec import Frozen, Prompts, SpecError
from factory.spec.prompts import CLASS_FIELD, template_fields

_FILE = TypeAdapter(dict[str, tuple[str, ...]])


class ResolvedPrompts(Frozen):
    """All that a prompt is drawn from: templates with their words, or finished prompts."""

    templates: tuple[str, ...] = ()
    """Each holds {class_name}, and perhaps names of `words`; none of a file."""
    words: dict[str, tuple[str, ...]] = Field(default={})
    class_words: dict[str, tuple[str, ...]] = Field(default={})
    """Of every class what stands for it in a template; none of a file."""
    finished: dict[str, tuple[str, ...]] = Field(default={})
    """Of every class its prompts, where they come from a file."""


def resolve_prompts(
    prompts: Prompts, class_names: Sequence[str], phrases: Mapping[str, str] | None = None
) -> ResolvedPrompts:
    """Read what `prompts` names and fit it to the classes of a dataset.

    Args:
        prompts: what the spec says.
        class_names: the dataset's classes.
        phrases: class -> what an adapter has learned to answer to, which then stands for it.

    Raises:
        SpecError: if the file cannot be read; if its classes or those of `class_words` are unknown,
            missing or empty; or if they leave out what an adapter answers to.
    """
    phrases = {name: text for name, text in (phrases or {}).items() if name in class_names}
    if prompts.file is not None:
        finished = read_prompts(prompts.file)
        _check_classes("prompts.file", finished, class_names)
        _check_phrases(prompts.file, finished, phrases)
        return ResolvedPrompts(finished={name: finished[name] for name in class_names})
    _check_known("prompts.class_words", prompts.class_words, class_names)
    twice = sorted(prompts.class_words.keys() & phrases.keys())
    if twice:
        raise SpecError(
            f"prompts.class_words: names {twice}, but adapters have learned "
            f"{[phrases[name] for name in twice]} for them; leave them out of class_words"
        )
    stands_for = {**prompts.class_words, **{name: (phrases[name],) for name in phrases}}
    return ResolvedPrompts(
        templates=prompts.templates,
        words=prompts.words,
        class_words={name: stands_for.get(name, (name,)) for name in class_names},
    )


def draw_prompt(prompts: ResolvedPrompts, class_name: str, seed: int) -> str:
    """The prompt of one image; each part is drawn evenly and apart from the others.

    So a longer list of words changes the words drawn from it, and nothing else.
    """
    if prompts.finished:
        return _pick(prompts.finished[class_name], seed, "finished")
    template = _pick(prompts.templates, seed, "template")
    values = {CLASS_FIELD: _pick(prompts.class_words[class_name], seed, "class")}
    for name in template_fields(template) - {CLASS_FIELD}:
        values[name] = _pick(prompts.words[name], seed, "word", name)
    return template.format(**values)


def read_prompts(file: str | Path) -> dict[str, tuple[str, ...]]:
    """Class -> finished prompts, as the file has them.

    Raises:
        SpecError: if it cannot be read, or holds anything but lists of texts by class.
    """
    path = Path(file).expanduser()
    expected = "give a YAML file with lines like `cat: [a photo of a cat, a cat asleep]`"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(
            f"prompts.file: {file} cannot be read ({error.strerror}); {expected}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"prompts.file: {file} is no YAML ({error}); {expected}") from None
    try:
        return _FILE.validate_python(tree)
    except ValidationError as error:
        places = [".".join(map(str, item["loc"])) or "file" for item in error.errors()]
        raise SpecError(
            f"prompts.file: {file} holds something other than a list of texts at {places}; "
            f"{expected}, and put a text that YAML takes for a number or yes/no in quotes"
        ) from None


def prompts_yaml(prompts: Mapping[str, Sequence[str]], *, header: str) -> str:
    """A prompt file: `header` as comments, then each class with its prompts, in the given order."""
    comments = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    lists = {class_name: list(texts) for class_name, texts in prompts.items()}
    # One prompt a line, however long: people review it.
    return comments + yaml.safe_dump(
        lists, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1_000_000
    )


def _pick(choices: Sequence[str], *parts: str | int) -> str:
    return choices[hash_seed(*parts) % len(choices)]


def _check_classes(
    field: str, found: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> None:
    _check_known(field, found, class_names)
    missing = [name for name in class_names if name not in found]
    if missing:
        raise SpecError(f"{field}: has no prompts for {missing}; add some for each class")
    empty = [
        name for name in class_names if not found[name] or not all(map(str.strip, found[name]))
    ]
    if empty:
        raise SpecError(f"{field}: has no prompt, or an empty one, for {empty}; write or delete it")


def _check_known(
    field: str, found: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> None:
    unknown = [name for name in found if name not in class_names]
    if unknown:
        near = {
            name: matches[0]
            for name in unknown
            if (matches := difflib.get_close_matches(name, class_names, n=1, cutoff=0.5))
        }
        hints = [f"did you mean {right!r} by {name!r}?" for name, right in near.items()]
        raise SpecError(
            f"{field}: {unknown} are no classes of this dataset; "
            + " ".join(hints or [f"its classes are {list(class_names)}"])
        )


def _check_phrases(
    file: str, found: Mapping[str, Sequence[str]], phrases: Mapping[str, str]
) -> None:
    without = {
        name: phrase
        for name, phrase in phrases.items()
        if not all(phrase in prompt for prompt in found[name])
    }
    if without:
        raise SpecError(
            f"prompts.file: {file} has prompts without what the adapters have learned, {without}; "
            "put it into every prompt of these classes, or give templates instead of a file"
        )
