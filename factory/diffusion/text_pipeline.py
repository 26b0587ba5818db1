"""A text-to-image pipeline of diffusers on its device, and the adapters that it swaps."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image, DiffusionPipeline

from factory.adapters import Adapter, AdapterKind, fetch_adapter
from factory.models import PipelineFolder
from factory.spec import SpecError, TextToImageGenerator
from factory.text_schedulers import check_pipeline, scheduler_class


class AdaptedPipeline:
    """One warm pipeline, with at most one adapter on it.

    The adapters of a root are of one kind. Whole pipelines stand in for the base model, which is
    then never loaded; words and LoRA weights are put on it and taken off it.
    """

    def __init__(
        self,
        model: PipelineFolder,
        generator: TextToImageGenerator,
        adapters: Mapping[str, Adapter],
        device: torch.device,
        *,
        has_start: bool,
    ) -> None:
        """Load the base model, if it is to draw.

        Args:
            model: the base model.
            generator: how it draws, and the root of its adapters.
            adapters: those that `wear` will be given; empty: the base model draws as it is.
            device: where it draws.
            has_start: load the pipeline that starts from images instead of from noise.

        Raises:
            SpecError: if the model cannot be had, or not do what is asked of it.
        """
        self.seconds_swapping = 0.0
        """Time spent on changing adapters, in all."""
        self.pipeline: Any = None
        """As the last `wear` left it."""
        self._base = model
        self._generator = generator
        self._device = device
        self._has_start = has_start
        self._worn: Adapter | None = None
        self._folders: dict[str, Path] = {}
        self._downloads = tempfile.TemporaryDirectory(prefix="factory-adapters-")
        if not any(adapter.kind == "full" for adapter in adapters.values()):
            self.pipeline = self._load_base()

    def wear(self, adapter: Adapter) -> None:
        """Draw with `adapter` from now on, and with no other.

        If that fails, nothing is drawn before another call has succeeded.
        """
        if adapter == self._worn:
            return
        start = time.perf_counter()
        folder = str(self._fetch(adapter))
        # Whatever fails below leaves a pipeline of which nobody knows what is on it.
        pipeline, before = self.pipeline, self._worn
        self.pipeline = self._worn = None
        if adapter.kind == "full":
            # Two may not fit on the device.
            del pipeline
            self.pipeline = self._load(folder, None)
        else:
            self.pipeline = _swapped(pipeline or self._load_base(), adapter.kind, before, folder)
        self._worn = adapter
        self.seconds_swapping += time.perf_counter() - start

    def _load_base(self) -> Any:
        return self._load(self._base.path, self._base.revision)

    def _fetch(self, adapter: Adapter) -> Path:
        assert self._generator.adapters is not None
        if adapter.digest not in self._folders:
            folder = fetch_adapter(self._generator.adapters, adapter, Path(self._downloads.name))
            self._folders[adapter.digest] = folder
        return self._folders[adapter.digest]

    def _load(self, path: str, revision: str | None) -> Any:
        auto = AutoPipelineForImage2Image if self._has_start else AutoPipelineForText2Image
        try:
            index: Any = DiffusionPipeline.load_config(path, revision=revision)
            check_pipeline(self._generator, index["_class_name"], has_start=self._has_start)
            pipeline: Any = auto.from_pretrained(
                path,
                revision=revision,
                variant=self._generator.variant,
                dtype=getattr(torch, self._generator.dtype),
                **self._choices(index["_class_name"]),
            )
        except (OSError, ValueError) as error:
            raise _cannot_be_loaded(path, error) from None
        own = pipeline.scheduler
        kind = getattr(diffusers, scheduler_class(self._generator, type(own).__name__))
        pipeline.scheduler = kind.from_config(own.config)
        pipeline.set_progress_bar_config(disable=True)
        if self._generator.compile:
            pipeline.unet.compile()
        return pipeline.to(self._device)

    def _choices(self, pipeline: str) -> dict[str, Any]:
        if pipeline.startswith("StableDiffusionXL"):
            # Left open, it depends on whether a package happens to be installed.
            return {"add_watermarker": False}
        if not self._generator.safety_checker:
            return {"safety_checker": None, "requires_safety_checker": False}
        return {}


def _swapped(pipeline: Any, kind: AdapterKind, before: Adapter | None, folder: str) -> Any:
    """The pipeline with the words or LoRA weights of `folder` on it instead of those before."""
    match kind:
        case "textual_inversion":
            if before is not None:
                pipeline.unload_textual_inversion()
            pipeline.load_textual_inversion(folder)
        case "lora":
            if before is not None:
                pipeline.unload_lora_weights()
            pipeline.load_lora_weights(folder)
    return pipeline


def _cannot_be_loaded(path: str, error: Exception) -> SpecError:
    return SpecError(
        f"generator.model: {path} cannot be loaded ({str(error).splitlines()[0]}); give a folder "
        "of a text-to-image pipeline in diffusers' format, or the id of one on the Hugging Face "
        "Hub that can be reached from here"
    )
