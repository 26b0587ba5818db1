"""Prompts that a language model writes, for people to review."""

from typing import Literal

from pydantic import Field, model_validator

from factory.spec.prompts import CLASS_FIELD, readable_fields
from factory.spec.read import Frozen, check_once

NAMBURI2022_TEMPLATES = (
    "Describe what a {class_name} looks like?",
    "How can you identify a {class_name}?",
    "What does a {class_name} looks like?",
    "Describe an image from the internet of a {class_name}?",
    "A caption of an image of {class_name}:",
)
"""Section 6.1 of the paper, as printed."""


class WritePromptsSpec(Frozen):
    """What a language model is asked, and how it answers; each answer becomes a prompt."""

    model: str
    """A text-generation model in transformers' format: a folder, or `org/name` on the Hugging Face
    Hub. It goes on with a template's text: no chat format is put around it."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    class_names: tuple[str, ...] = Field(min_length=1)
    templates: tuple[str, ...] = Field(default=NAMBURI2022_TEMPLATES, min_length=1)
    """Each holds {class_name}; they are asked in turn."""
    prompts_per_class: int = Field(default=10, ge=1)
    """Different prompts of each class; a larger number keeps those of a smaller one."""
    temperature: float = Field(default=0.99, gt=0)
    """Divides the logits; tokens are drawn of the whole distribution (no top-k, no top-p)."""
    max_new_tokens: int = Field(default=20, ge=1)
    """Tokens of an answer; longer ones are cut off there."""
    max_answers_per_prompt: int = Field(default=20, ge=1)
    """A class whose model gives fewer new prompts than one in this many answers is given up."""
    seed: int = Field(default=0, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: int = Field(default=10, ge=1)
    """Answers written at once. Fixed, since a network's last bits depend on it."""
    output: str = "prompts.yaml"
    """The file to write; generator.prompts.file of jobs/generate.py reads it."""

    @model_validator(mode="after")
    def _templates_name_the_class(self) -> "WritePromptsSpec":
        wrong = [text for text in self.templates if readable_fields(text) != {CLASS_FIELD}]
        if wrong:
            raise ValueError(
                f"templates {wrong} must hold {{{CLASS_FIELD}}} and no other name in braces"
            )
        return self

    @model_validator(mode="after")
    def _each_class_once(self) -> "WritePromptsSpec":
        check_once("class_names", self.class_names)
        return self
