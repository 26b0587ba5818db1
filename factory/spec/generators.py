"""What draws the candidates of a dataset: one section a system."""

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from factory.spec.prompts import Prompts
from factory.spec.read import Frozen, kind_or

Dtype = Literal["float32", "bfloat16", "float16"]


class _Model(Frozen):
    """A model in diffusers' folder format."""

    model: str
    """A folder, or `org/name` on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    compile: bool = False
    """Run the network through torch.compile, which an actor waits for at its first batch. On a CPU
    the C++ compiler, which records do not name, then has a part in the last bits."""


class _PixelModel(_Model):
    """A model in pixel space as jobs/fit.py makes it, class-conditional or unconditional."""

    guidance_scale: float = Field(default=1.0, ge=0)
    """diffusers' convention: without + scale (with_class - without); 1 is no guidance."""
    guidance_weight: float | None = Field(default=None, ge=-1)
    """The w of lundberg2022 and of Ho and Salimans: (1 + w) with_class - w without, so that
    guidance_scale = 1 + w and 0 is no guidance. Instead of guidance_scale."""
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def scale(self) -> float:
        """Guidance in diffusers' convention, whichever of the two was given."""
        return self.guidance_scale if self.guidance_weight is None else 1 + self.guidance_weight

    @model_validator(mode="after")
    def _one_convention(self) -> "_PixelModel":
        if self.guidance_weight is not None and "guidance_scale" in self.model_fields_set:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale} and guidance_weight "
                f"{self.guidance_weight}; give one of the two (scale = 1 + weight)"
            )
        return self


class EdmGenerator(_PixelModel):
    """A pixel model with EDM preconditioning (Karras et al. 2022)."""

    kind: Literal["edm"] = "edm"
    model: str = "fashion_mnist"
    """An embedded model's name, a folder, or `org/name` on the Hugging Face Hub."""
    scheduler: Literal["heun", "euler", "edm_euler", "edm_dpm_solver_multistep"] = (
        "edm_dpm_solver_multistep"
    )
    """`heun` and `euler` are the factory's loops; `edm_*` are diffusers' schedulers."""
    num_inference_steps: int = Field(default=12, ge=1, le=1000)
    """Noise levels. Heun evaluates the network 2 n - 1 times, the others n times."""
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, ge=1)
    guidance_scale: float = Field(default=1.5, ge=0)
    """diffusers' convention: D = D_null + scale (D_class - D_null); 1 is no guidance."""
    guidance_interval: tuple[float, float] | None = (0.1, 5.0)
    """Guide only at noise levels sigma within [low, high]; None: at all."""

    @model_validator(mode="after")
    def _ranges(self) -> "EdmGenerator":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}; "
                "give sigma_min < sigma_max"
            )
        low_high = self.guidance_interval
        if low_high is not None and not 0 <= low_high[0] < low_high[1]:
            raise ValueError(f"guidance_interval is {list(low_high)}; give 0 <= low < high")
        return self


class DdpmGenerator(_PixelModel):
    """A pixel model that predicts the noise of a discrete chain (Ho et al. 2020)."""

    kind: Literal["ddpm"]
    scheduler: Literal["ddpm", "ddim", "dpm_solver_multistep", "unipc"] = "ddpm"
    """`ddpm` and `ddim` are the factory's loops, the others diffusers' solvers; the chain (T, beta)
    is the model's own."""
    num_inference_steps: int | None = Field(default=None, ge=1)
    """Network evaluations; None: every step of the model's chain. DDIM over a whole cosine chain
    multiplies the network's errors: give fewer."""
    variance: Literal["fixed_large", "fixed_small"] = "fixed_large"
    """sigma_t^2 of the `ddpm` scheduler: beta_t (lundberg2022), or beta_t (1 - abar_(t-1)) /
    (1 - abar_t) (yamaguchi2024, Eq. 2)."""


class FineClass(Frozen):
    """A class of an ImageNet model that images of a coarser class are drawn of."""

    name: str
    """As the model has it, or one of its names between commas."""
    index: int | None = Field(default=None, ge=0)
    """Its label in the model, checked against the name."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the coarse class, against the others'."""


class DitGenerator(_Model):
    """A class-conditional latent transformer in the format of diffusers' DiTPipeline."""

    kind: Literal["dit"]
    scheduler: Literal["ddim", "ddpm", "dpm_solver_multistep"] = "ddim"
    num_inference_steps: int = Field(default=250, ge=1)
    guidance_scale: float = Field(default=4.0, ge=0)
    """diffusers' convention: without + scale (with_class - without); 1 is no guidance."""
    dtype: Dtype = "float32"
    mapping: dict[str, tuple[FineClass, ...]] = Field(default={}, min_length=1)
    """Class of the dataset -> the model's classes that its images are drawn of."""

    @property
    def scale(self) -> float:
        """Guidance in diffusers' convention."""
        return self.guidance_scale

    @model_validator(mode="after")
    def _mapped(self) -> "DitGenerator":
        empty = [name for name, fine in self.mapping.items() if not fine]
        if empty or not self.mapping:
            raise ValueError(
                f"mapping gives no class of the model for {empty or 'any class'}; "
                "write e.g. {truck: [{name: garbage truck}, {name: tow truck}]}"
            )
        return self


TextScheduler = Literal[
    "ddim",
    "ddpm",
    "deis",
    "dpm_solver_multistep",
    "dpm_solver_singlestep",
    "euler",
    "euler_ancestral",
    "heun",
    "kdpm2",
    "kdpm2_ancestral",
    "lcm",
    "lms",
    "pndm",
    "tcd",
    "unipc",
]
"""diffusers' schedulers that take one random stream an image, or draw no noise between steps."""


class TextToImageGenerator(_Model):
    """A text-to-image pipeline of diffusers: Stable Diffusion 1, 2, XL, turbo and LCM kinds."""

    kind: Literal["text_to_image"]
    variant: str | None = None
    """Variant of the weights' files, e.g. `fp16`."""
    dtype: Dtype = "float32"
    scheduler: TextScheduler | None = None
    """None: the model's own."""
    num_inference_steps: int = Field(default=50, ge=1)
    guidance_scale: float = Field(default=7.5, ge=0)
    """diffusers' convention; 0 and 1 are no guidance."""
    negative_prompt: str = ""
    height: int | None = Field(default=None, gt=0)
    """Of the drawn image, px; None: the model's own."""
    width: int | None = Field(default=None, gt=0)
    prompts: Prompts = Prompts()
    adapters: str | None = None
    """Root of jobs/adapt.py, which holds an adapter for each class; None: the model as it is."""
    safety_checker: bool = True
    """Reject what the model's own safety checker flags; of no effect where it has none."""

    @property
    def scale(self) -> float:
        """Guidance in diffusers' convention."""
        return self.guidance_scale

    @model_validator(mode="after")
    def _negative(self) -> "TextToImageGenerator":
        if self.negative_prompt and self.guidance_scale <= 1:
            raise ValueError(
                f"negative_prompt is {self.negative_prompt!r} and guidance_scale "
                f"{self.guidance_scale}; without guidance it has no effect: leave it out, or give "
                "a scale above 1"
            )
        return self


Generator = Annotated[
    Annotated[EdmGenerator, Tag("<edm>")]
    | Annotated[DdpmGenerator, Tag("<ddpm>")]
    | Annotated[DitGenerator, Tag("<dit>")]
    | Annotated[TextToImageGenerator, Tag("<text_to_image>")],
    kind_or("edm"),
]
"""A section without `kind` is of kind edm."""
