"""The papers behind a dataset: only those whose methods made or measured it."""

from collections.abc import Iterator

from factory.publish.facts import Facts
from factory.spec import EdmGenerator

_GENERATORS = {
    "edm": (
        "Karras et al. (2022), Elucidating the Design Space of Diffusion-Based Generative Models"
    ),
    "ddpm": "Ho et al. (2020), Denoising Diffusion Probabilistic Models",
    "dit": "Peebles and Xie (2023), Scalable Diffusion Models with Transformers",
    "text_to_image": (
        "Rombach et al. (2022), High-Resolution Image Synthesis with Latent Diffusion Models"
    ),
}
_GUIDANCE = "Ho and Salimans (2022), Classifier-Free Diffusion Guidance"
_INTERVAL = (
    "Kynk\u00e4\u00e4nniemi et al. (2024), Applying Guidance in a Limited Interval Improves Sample "
    "and Distribution Quality in Diffusion Models"
)
_DPM_SOLVER = (
    "Lu et al. (2022), DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic "
    "Models"
)
_DDIM = "Song et al. (2021), Denoising Diffusion Implicit Models"
_INVERSION = (
    "Gal et al. (2023), An Image is Worth One Word: Personalizing Text-to-Image Generation using "
    "Textual Inversion"
)
_DREAMBOOTH = (
    "Ruiz et al. (2023), DreamBooth: Fine Tuning Text-to-Image Diffusion Models for "
    "Subject-Driven Generation"
)
_LORA = "Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models"
_ADAPTERS = {
    "textual_inversion": (_INVERSION,),
    "lora": (_DREAMBOOTH, _LORA),
    "full": (_DREAMBOOTH,),
}
_RECONSTRUCTION = "Yamaguchi (2024), Analyzing Diffusion Models on Synthesizing Training Datasets"
_FRECHET = (
    "Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash "
    "Equilibrium"
)
_KERNEL = "Bi\u0144kowski et al. (2018), Demystifying MMD GANs"
_PRECISION = (
    "Kynk\u00e4\u00e4nniemi et al. (2019), Improved Precision and Recall Metric for Assessing "
    "Generative Models"
)
_COPIES = "Carlini et al. (2023), Extracting Training Data from Diffusion Models"
_DETECTION = "Frank et al. (2020), Leveraging Frequency Analysis for Deep Fake Image Recognition"


def references(facts: Facts) -> list[tuple[str, str]]:
    """What a paper was used for, and the paper."""
    return [*_of_making(facts), *_of_measuring(facts)]


def _of_making(facts: Facts) -> Iterator[tuple[str, str]]:
    generator = facts.spec.generator
    yield "generator", _GENERATORS[generator.kind]
    # diffusers takes both for no guidance.
    if generator.scale not in (0, 1):
        yield "guidance", _GUIDANCE
        if isinstance(generator, EdmGenerator) and generator.guidance_interval is not None:
            yield "guidance interval", _INTERVAL
    if "dpm_solver" in (generator.scheduler or ""):
        yield "sampler", _DPM_SOLVER
    if generator.scheduler == "ddim":
        yield "sampler", _DDIM
    for paper in dict.fromkeys(p for kind in facts.model.adapter_kinds for p in _ADAPTERS[kind]):
        yield "adapters", paper
    if facts.spec.reconstruct is not None:
        yield "reconstruction", _RECONSTRUCTION


def _of_measuring(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.evaluation is None:
        return
    found = facts.evaluation.found
    if found.likeness.frechet_distance is not None:
        yield "Fr\u00e9chet distance", _FRECHET
    if found.likeness.kernel_distance is not None:
        yield "kernel distance", _KERNEL
    if found.likeness.precision is not None:
        yield "precision and recall", _PRECISION
    if found.detection:
        yield "telling from real images", _DETECTION
    if found.memorisation is not None and found.memorisation.verdict != "not checked":
        yield "search for copies", _COPIES
