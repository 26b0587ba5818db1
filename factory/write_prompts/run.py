"""Ask a language model for prompts, class by class, and write them into a file."""

import logging
import time
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from factory.diffusion.device import pick_device
from factory.prompts import prompts_yaml
from factory.seeds import hash_seed, seeded
from factory.spec import Frozen, JobError, SpecError, WritePromptsSpec
from factory.write_prompts.prepare import Prepared

_log = logging.getLogger(__name__)


class WritePromptsReport(Frozen):
    """What was written."""

    file: str
    fingerprint: str
    model: str
    model_digest: str
    written: bool
    """False: the file was there, from these settings, and was left as it is."""
    answers: dict[str, int]
    """Class -> answers that its prompts were taken from; the rest were empty or there already."""
    num_prompts: int
    seconds: float


def run(prepared: Prepared) -> WritePromptsReport:
    """Write the file, unless it is there.

    Raises:
        SpecError: if the model cannot be loaded.
        JobError: if a class gives too few different prompts, naming each with its yield.
    """
    start = time.perf_counter()
    prompts: dict[str, tuple[str, ...]] = {}
    answers: dict[str, int] = {}
    if not prepared.is_written:
        writer = Writer(prepared)
        for class_name in prepared.spec.class_names:
            prompts[class_name], answers[class_name] = writer.write(class_name)
            _log.info("%s: %d prompts", class_name, len(prompts[class_name]))
        _check_filled(prepared.spec, prompts, answers)
        text = prompts_yaml(prompts, header=_header(prepared))
        # A file under its own name is whole, whenever this process is killed.
        part = prepared.path.with_name(prepared.path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.rename(prepared.path)
    return WritePromptsReport(
        file=str(prepared.path),
        fingerprint=prepared.fingerprint,
        model=prepared.model_name,
        model_digest=prepared.model.digest,
        written=not prepared.is_written,
        answers=answers,
        num_prompts=sum(map(len, prompts.values())),
        seconds=round(time.perf_counter() - start, 3),
    )


class Writer:
    """A loaded language model that writes prompts."""

    def __init__(self, prepared: Prepared) -> None:
        """Load the model on this process's device.

        Raises:
            SpecError: if it cannot be loaded, or its tokenizer does not give texts back.
        """
        self._spec = spec = prepared.spec
        where = {"revision": prepared.model.revision or "main"}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(prepared.model.path, **where)
            model: Any = AutoModelForCausalLM.from_pretrained(
                prepared.model.path, dtype=getattr(torch, spec.dtype), **where
            )
        except (OSError, ValueError) as error:
            raise SpecError(
                f"model: {spec.model} cannot be loaded ({str(error).splitlines()[0]}); give a "
                "text-generation model in transformers' format"
            ) from None
        self._check_tokenizer()
        # The answers begin at one place, so that they can be cut off there.
        self._tokenizer.padding_side = "left"
        end = model.generation_config.eos_token_id
        last = end[0] if isinstance(end, list) else end
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = 0 if last is None else last
        # Instead of the model's own, which may hold top-k or penalties that the file does not name.
        model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=spec.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=spec.max_new_tokens,
            eos_token_id=end,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        self._model = model.to(pick_device()).eval()

    def write(self, class_name: str) -> tuple[tuple[str, ...], int]:
        """The first different prompts of a class, at most as many as are asked for.

        Returns:
            The prompts, and the number of answers that they were taken from.
        """
        spec = self._spec
        prompts: dict[str, None] = {}
        asked = 0
        bound = spec.prompts_per_class * spec.max_answers_per_prompt
        for answer in islice(self._answers(class_name), bound):
            asked += 1
            prompt = clean(answer)
            if prompt:
                prompts.setdefault(prompt)
            if len(prompts) == spec.prompts_per_class:
                break
        return tuple(prompts), asked

    def _answers(self, class_name: str) -> Iterator[str]:
        spec, questions = self._spec, self._questions(class_name)
        for number in count():
            first = number * spec.batch_size
            batch = [questions[(first + i) % len(questions)] for i in range(spec.batch_size)]
            with seeded(hash_seed(spec.seed, class_name, number)):
                yield from self._complete(batch)

    def _questions(self, class_name: str) -> list[str]:
        return [text.format(class_name=class_name) for text in self._spec.templates]

    @torch.inference_mode()
    def _complete(self, questions: list[str]) -> list[str]:
        tokens = self._tokenizer(questions, return_tensors="pt", padding=True)
        tokens = {
            name: tokens[name].to(self._model.device) for name in ("input_ids", "attention_mask")
        }
        whole = self._model.generate(**tokens)
        return self._tokenizer.batch_decode(
            whole[:, tokens["input_ids"].shape[1] :], skip_special_tokens=True
        )

    def _check_tokenizer(self) -> None:
        # Without its files transformers gives a tokenizer of two tokens and says nothing.
        question = self._questions(self._spec.class_names[0])[0]
        tokens = self._tokenizer(question, add_special_tokens=False).input_ids
        back = self._tokenizer.decode(tokens)
        if "".join(back.split()).lower() != "".join(question.split()).lower():
            raise SpecError(
                f"model: the tokenizer of {self._spec.model} makes {back!r} of {question!r}; put "
                "its tokenizer.json, or the files that it is made from, beside config.json"
            )


def clean(answer: str) -> str:
    """The first line of an answer that is not empty, with single spaces; empty if there is none."""
    # A cut in the middle of a letter leaves a replacement character.
    lines = (" ".join(line.replace("\ufffd", "").split()) for line in answer.splitlines())
    return next(filter(None, map(_printable, lines)), "")


def _printable(line: str) -> str:
    return "".join(letter for letter in line if letter.isprintable())


def _check_filled(
    spec: WritePromptsSpec, prompts: dict[str, tuple[str, ...]], answers: dict[str, int]
) -> None:
    short = {
        name: f"{len(texts)} of {answers[name]} answers"
        for name, texts in prompts.items()
        if len(texts) < spec.prompts_per_class
    }
    if short:
        raise JobError(
            f"prompts_per_class is {spec.prompts_per_class}, but the model gave fewer different "
            f"prompts: {short}; raise temperature or max_answers_per_prompt, or ask for fewer"
        )


def _header(prepared: Prepared) -> str:
    spec = prepared.spec
    settings = spec.model_dump(mode="json", exclude={"model", "revision", "class_names", "output"})
    return "\n".join(
        [
            "REVIEW ME: a language model wrote these prompts, and nobody has read them yet.",
            "Delete or reword what does not show its class; each class needs at least one.",
            "jobs/generate.py takes this file as generator.prompts.file, and one prompt an image.",
            "",
            f"model: {prepared.model_name}",
            f"digest: {prepared.model.digest}",
            *(f"{name}: {value}" for name, value in settings.items()),
            f"fingerprint: {prepared.fingerprint}",
        ]
    )
