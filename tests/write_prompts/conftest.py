"""A language model of a few thousand random parameters, in transformers' format."""

from pathlib import Path

import pytest

from factory.seeds import seeded

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?:.,"


def save_tiny_language_model(folder: Path, *, seed: int = 0, with_tokenizer: bool = True) -> Path:
    """Save a GPT-2 that writes letters, spaces and line ends at random, and return its folder."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    # A space and a line end are written so in byte-level vocabularies.
    tokens = [*LETTERS, "Ġ", "Ċ", "<|endoftext|>"]
    tokenizer = GPT2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        model_max_length=256,
    )
    end = tokens.index("<|endoftext|>")
    config = GPT2Config(
        vocab_size=len(tokens),
        n_positions=256,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=end,
        eos_token_id=end,
    )
    with seeded(seed):
        GPT2LMHeadModel(config).save_pretrained(folder)
    if with_tokenizer:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def language_model(tmp_path_factory) -> Path:
    return save_tiny_language_model(tmp_path_factory.mktemp("language") / "tiny-gpt")
