"""Textual inversion (Gal et al. 2022): a new word's vectors are trained, and nothing else.

B prompts, L tokens a prompt, D width of the text encoder, V vectors of the word.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from factory.adapt.prepare import Concept
from factory.adapt.words import tokens_of
from factory.spec import TextualInversion

WEIGHTS_NAME = "learned_embeds.safetensors"


class WordTable(torch.nn.Module):
    """A text encoder's token table, with trained rows for new tokens at its end."""

    def __init__(self, table: torch.nn.Module, start: torch.Tensor, first_id: int) -> None:
        """Extend `table` by rows that start as `start` [V, D], for the ids from `first_id` on."""
        super().__init__()
        self.table = table
        self.vectors = torch.nn.Parameter(start.detach().clone())
        self._first_id = first_id

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [...] -> [..., D]."""
        is_new = ids >= self._first_id
        known = self.table(ids.masked_fill(is_new, 0))
        learned = self.vectors[(ids - self._first_id).clamp(min=0)]
        return torch.where(is_new.unsqueeze(-1), learned, known)


class NewWord:
    """A pipeline that knows a new word, whose vectors can be trained."""

    def __init__(
        self, pipeline: StableDiffusionPipeline, concept: Concept, method: TextualInversion
    ) -> None:
        """Add the concept's word to `pipeline`, starting from its initializer's vector."""
        self._pipeline = pipeline
        self._token = concept.wording.phrase
        pipeline.unet.requires_grad_(False)
        pipeline.text_encoder.requires_grad_(False)
        tokenizer, table = pipeline.tokenizer, pipeline.text_encoder.get_input_embeddings()
        initializer = tokenizer.encode(concept.wording.initializer, add_special_tokens=False)
        tokens = tokens_of(self._token, method.num_vectors)
        tokenizer.add_tokens(tokens)
        start = table.weight[initializer].repeat(method.num_vectors, 1)
        words = WordTable(table, start, tokenizer.convert_tokens_to_ids(tokens[0]))
        pipeline.text_encoder.set_input_embeddings(words)
        self._vectors = words.vectors
        self.parameters = [words.vectors]

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """[B, L, D], with gradients for the vectors."""
        return self._pipeline.encode_prompt(list(prompts), self._vectors.device, 1, False)[0]

    def save(self, folder: Path) -> None:
        """Write what `load_textual_inversion` takes."""
        save_file({self._token: self._vectors.detach().cpu()}, folder / WEIGHTS_NAME)
