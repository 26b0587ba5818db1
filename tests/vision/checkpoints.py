"""Tiny networks in transformers' format, made from configurations."""

import json
from pathlib import Path

from factory.seeds import seeded

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def save_tiny_resnet(folder: Path, *, num_labels=5, channels=3, **settings):
    """A random ResNet of 5 classes; `settings` go into preprocessor_config.json."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_channels=channels,
        num_labels=num_labels,
    )
    with seeded(0):
        network = ResNetForImageClassification(config)
    network.save_pretrained(folder)
    save_settings(folder, **settings)
    return network.eval()


def save_settings(folder: Path, **settings):
    """A preprocessor_config.json as transformers writes it."""
    settings = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, **settings}
    Path(folder, "preprocessor_config.json").write_text(json.dumps(settings))


def save_tiny_clip(folder: Path):
    """A random CLIP for images of 16 px, and a tokenizer of single letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    ends = ("<|startoftext|>", "<|endoftext|>")
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *ends]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {"vocab_size": len(tokens), "max_position_embeddings": 20, "bos_token_id": 52}
    text |= {"eos_token_id": 53, "pad_token_id": 53}
    config = CLIPConfig(
        text_config=size | text,
        vision_config=size | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    with seeded(0):
        model = CLIPModel(config)
    model.save_pretrained(folder)
    save_settings(folder)
    return model.eval()
