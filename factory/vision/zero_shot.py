"""Classify images by the names of their classes alone, by a CLIP model (arXiv 2103.00020).

N images, C channels, H height, W width, K classes, D features.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from factory.images import to_float
from factory.spec import SpecError, ZeroShot
from factory.vision.pretrained import Normalisation, read_normalisation

_LOOK_BATCH = 100


@torch.inference_mode()
def zero_shot_probabilities(
    spec: ZeroShot,
    images: NDArray[np.uint8],
    class_names: tuple[str, ...],
    *,
    device: torch.device,
) -> NDArray[np.float32]:
    """Probabilities float32 [N, K] of images uint8 [N, H, W, C], C 1 or 3; each row sums to 1.

    The middle square of each image, bicubic at the model's size, against one prompt a class.

    Raises:
        SpecError: if the model cannot be had, or a prompt is longer than it reads.
    """
    model, tokenizer, normalisation = _load(spec)
    model = model.to(device).eval()
    tokens = _tokens(spec, tokenizer, class_names, model.config.text_config.max_position_embeddings)
    texts = model.get_text_features(**tokens.to(device)).pooler_output
    texts = F.normalize(texts, dim=1) * model.logit_scale.exp()
    rows = []
    for start in range(0, len(images), _LOOK_BATCH):
        x = to_float(images[start : start + _LOOK_BATCH]).to(device)
        x = _prepare(x, model.config.vision_config.image_size, normalisation)
        seen = F.normalize(model.get_image_features(pixel_values=x).pooler_output, dim=1)
        rows.append((seen @ texts.T).softmax(dim=1).cpu())
    return torch.cat(rows).numpy()


def _load(spec: ZeroShot) -> tuple[Any, Any, Normalisation]:
    from transformers import AutoTokenizer, CLIPModel

    revision = spec.revision or "main"
    normalisation = read_normalisation("zero_shot.model", spec.model, revision)
    try:
        model: Any = CLIPModel.from_pretrained(spec.model, revision=revision, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(spec.model, revision=revision)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"zero_shot.model: {spec.model} cannot be had ({str(error).splitlines()[0]}); give a "
            "folder of a CLIP model in transformers' format, or an id on the Hugging Face Hub that "
            "can be reached from here"
        ) from None
    # Without its files transformers gives a tokenizer of two tokens and says nothing.
    expected = model.config.text_config.vocab_size
    if len(tokenizer) != expected:
        raise SpecError(
            f"zero_shot.model: the tokenizer of {spec.model} knows {len(tokenizer)} tokens, the "
            f"model {expected}; put its tokenizer.json, or vocab.json and merges.txt, beside "
            "config.json"
        )
    return model, tokenizer, normalisation


def _tokens(spec: ZeroShot, tokenizer: Any, class_names: tuple[str, ...], limit: int) -> Any:
    prompts = [spec.prompt.replace("{}", name) for name in class_names]
    tokens = tokenizer(prompts, padding=True, return_tensors="pt")
    lengths = tokens["attention_mask"].sum(dim=1).tolist()
    long = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length > limit]
    if long:
        raise SpecError(
            f"zero_shot.prompt: {', '.join(long)} have more than the {limit} tokens that "
            f"{spec.model} reads; give a shorter prompt"
        )
    return tokens


def _prepare(x: torch.Tensor, size: int, normalisation: Normalisation) -> torch.Tensor:
    height, width = x.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, :, top : top + side, left : left + side]
    x = F.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
    mean, std = (torch.tensor(v, device=x.device) for v in (normalisation.mean, normalisation.std))
    # Grey images become RGB here, by broadcasting.
    return (x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
