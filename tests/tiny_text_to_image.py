"""Random text-to-image pipelines of a few thousand parameters, in diffusers' folder format."""

from pathlib import Path
from typing import Any, Literal

from factory.seeds import seeded

_MERGES = (("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("a", "n"), ("an", "d</w>"))
_HIDDEN = 16


def save_tiny_pipeline(
    folder: Path,
    *,
    seed: int = 0,
    kind: Literal["stable_diffusion", "xl", "lcm"] = "stable_diffusion",
    sample_size: int = 8,
    scheduler: Literal["pndm", "ddim", "lcm"] = "pndm",
    with_safety_checker: bool = False,
    flags: Literal["everything", "nothing"] = "nothing",
) -> Path:
    """Save a pipeline that draws RGB images of 2 * `sample_size` px, and return its folder.

    Args:
        folder: where it is saved.
        seed: of its random weights.
        kind: Stable Diffusion, XL with its two text encoders, or a latent consistency model.
        sample_size: side of the latents; a multiple of 2.
        scheduler: which one the model brings.
        with_safety_checker: give it one (of no effect on XL).
        flags: what that one flags.
    """
    import diffusers

    with seeded(seed):
        parts: dict[str, Any] = {
            "vae": _vae(2 * sample_size),
            "text_encoder": _text_encoder(),
            "tokenizer": tiny_tokenizer(),
            "scheduler": _scheduler(scheduler),
        }
        if kind == "xl":
            parts["unet"] = _xl_unet(sample_size)
            parts["text_encoder_2"] = _text_encoder(with_projection=True)
            parts["tokenizer_2"] = tiny_tokenizer()
        else:
            # A latent consistency model takes its guidance as an input.
            parts["unet"] = _unet(sample_size, time_cond_proj_dim=8 if kind == "lcm" else None)
            parts["safety_checker"] = _safety_checker(flags) if with_safety_checker else None
            parts["feature_extractor"] = _feature_extractor() if with_safety_checker else None
            parts["requires_safety_checker"] = with_safety_checker
    names = {
        "stable_diffusion": "StableDiffusionPipeline",
        "xl": "StableDiffusionXLPipeline",
        "lcm": "LatentConsistencyModelPipeline",
    }
    getattr(diffusers, names[kind])(**parts).save_pretrained(folder)
    return folder


def tiny_tokenizer() -> Any:
    """CLIP's tokenizer with single bytes, their word-ending forms and a few merges: 520 tokens."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(left + right for left, right in _MERGES),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    # transformers says nothing of arguments by their old names and makes two tokens instead.
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(_MERGES),
        model_max_length=77,
    )


def _unet(sample_size: int, **kwargs: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": sample_size,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": _HIDDEN,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            **kwargs,
        }
    )


def _xl_unet(sample_size: int) -> Any:
    return _unet(
        sample_size,
        # The hidden states of both encoders side by side; of the second one also its pooled ones.
        cross_attention_dim=2 * _HIDDEN,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _HIDDEN,
    )


def _vae(sample_size: int) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=sample_size,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )


def _scheduler(name: str) -> Any:
    from diffusers import DDIMScheduler, LCMScheduler, PNDMScheduler

    chain = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    match name:
        case "ddim":
            return DDIMScheduler(**chain, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        case "lcm":
            return LCMScheduler(**chain)
        case _:
            return PNDMScheduler(
                **chain, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
            )


def _text_encoder(*, with_projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = tiny_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN,
        intermediate_size=2 * _HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=_HIDDEN,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config).eval()


def _safety_checker(flags: str) -> Any:
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": _HIDDEN,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=_HIDDEN))
    # A cosine lies between -1 and 1, and what lies above its threshold is flagged.
    threshold = -2.0 if flags == "everything" else 2.0
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(threshold)
        checker.special_care_embeds_weights.fill_(2.0)
    return checker.eval()


def _feature_extractor() -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
