"""What prompts call the concepts, and whether the model's tokenizer knows it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from factory.models import PipelineFolder
from factory.plan import slug
from factory.spec import AdaptSpec, DreamBooth, SpecError, TextualInversion, Words


class Wording(NamedTuple):
    """What stands for one class in prompts."""

    slug: str
    """For names of files."""
    words: str
    """What the model called the class before."""
    phrase: str
    """What it calls the concept once that is learned."""
    initializer: str | None
    """The word that training starts from, for textual inversion."""


def choose_words(
    spec: AdaptSpec, class_names: Sequence[str], base: PipelineFolder
) -> dict[str, Wording]:
    """The wording of each class.

    Raises:
        SpecError: naming the tables' unknown classes, classes whose files would have one name, and
            words that the tokenizer takes otherwise than the spec does.
    """
    _check_known(spec, class_names)
    slugs = {name: slug(name) for name in class_names}
    _refuse_equal("the name of its files is that of another class", slugs)
    words = {name: spec.class_words.get(name, name) for name in class_names}
    if isinstance(spec.method, DreamBooth):
        identifier = spec.method.identifier
        return {
            name: Wording(slugs[name], words[name], f"{identifier} {words[name]}", None)
            for name in class_names
        }
    default = {name: f"<{slugs[name]}>" for name in class_names}
    placeholders = _fill(spec.method.placeholder_token, default)
    _refuse_equal("method.placeholder_token is that of another class", placeholders)
    initializers = _fill(spec.method.initializer_token, words)
    tokenizer = _load_tokenizer(base)
    _check_placeholders(tokenizer, placeholders, spec.method.num_vectors)
    _check_initializers(tokenizer, initializers)
    return {
        name: Wording(slugs[name], words[name], placeholders[name], initializers[name])
        for name in class_names
    }


def tokens_of(placeholder: str, num_vectors: int) -> list[str]:
    """The tokens of a word of several vectors, by the names that diffusers gives them."""
    return [placeholder, *(f"{placeholder}_{index}" for index in range(1, num_vectors))]


def _fill(words: Words | None, default: Mapping[str, str]) -> dict[str, str]:
    if isinstance(words, str):
        return dict.fromkeys(default, words)
    return {name: (words or {}).get(name, word) for name, word in default.items()}


def _check_known(spec: AdaptSpec, class_names: Sequence[str]) -> None:
    tables: dict[str, object] = {"class_words": spec.class_words}
    if isinstance(spec.method, TextualInversion):
        tables["method.placeholder_token"] = spec.method.placeholder_token
        tables["method.initializer_token"] = spec.method.initializer_token
    unknown = {
        field: names
        for field, table in tables.items()
        if isinstance(table, dict) and (names := [n for n in table if n not in class_names])
    }
    if unknown:
        raise SpecError(
            "; ".join(f"{field}: names {names}" for field, names in unknown.items())
            + f", which are not to be learned; the classes are {list(class_names)}"
        )


def _refuse_equal(what: str, words: Mapping[str, str]) -> None:
    texts = list(words.values())
    equal = {name: text for name, text in words.items() if texts.count(text) > 1}
    if equal:
        raise SpecError(
            f"concepts: of {list(equal)} {what}: {sorted(set(equal.values()))}; give each its own, "
            "or learn them in two roots"
        )


def _load_tokenizer(base: PipelineFolder) -> Any:
    folder = base.files(["tokenizer/*"])
    from transformers import AutoTokenizer  # a second that refusals before this one do not need

    try:
        return AutoTokenizer.from_pretrained(folder / "tokenizer")
    except (OSError, ValueError) as error:
        raise SpecError(
            f"model: the tokenizer of {base.name} cannot be read ({str(error).splitlines()[0]}); "
            "give a whole model folder in diffusers' format"
        ) from None


def _check_placeholders(tokenizer: Any, placeholders: Mapping[str, str], num_vectors: int) -> None:
    vocabulary = tokenizer.get_vocab()
    known = {
        name: token
        for name, token in placeholders.items()
        if any(part in vocabulary for part in tokens_of(token, num_vectors))
    }
    if known:
        raise SpecError(
            f"method.placeholder_token: {known} are words of the model's tokenizer already; give "
            "words that it does not have, e.g. in angle brackets"
        )
    unfit = {n: token for n, token in placeholders.items() if not _is_plain(token)}
    if unfit:
        raise SpecError(
            f"method.placeholder_token: {unfit} cannot be told from the words around it; give "
            "lower-case words without spaces, e.g. in angle brackets"
        )


def _is_plain(token: str) -> bool:
    # CLIP's tokenizer makes prompts lower-case before it looks for added words.
    return bool(token) and token == token.lower() and not any(c.isspace() for c in token)


def _check_initializers(tokenizer: Any, initializers: Mapping[str, str]) -> None:
    pieces = {name: tokenizer.tokenize(word) for name, word in initializers.items()}
    wrong = [
        f"{initializers[name]!r} of {name!r} is {len(found)} ({', '.join(found)})"
        for name, found in pieces.items()
        if len(found) != 1
    ]
    if wrong:
        raise SpecError(
            f"method.initializer_token: must be one token of the model's tokenizer, but "
            f"{'; '.join(wrong)}; give a shorter word, for one class as "
            "method.initializer_token: {CLASS: WORD}"
        )
