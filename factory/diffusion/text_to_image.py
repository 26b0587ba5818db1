"""Draw with a text-to-image pipeline of diffusers: candidates in, images and their prompts out.

N samples, H height, W width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from numpy.typing import NDArray

from factory.diffusion.device import describe
from factory.diffusion.reconstruct import Original, Originals
from factory.diffusion.sampler import Drawn
from factory.diffusion.text_pipeline import AdaptedPipeline
from factory.images import to_float, to_uint8
from factory.inputs import open_start
from factory.models import PipelineFolder
from factory.plan import Candidate
from factory.prompts import draw_prompt
from factory.resolve import Resolved
from factory.seeds import stream
from factory.shards.sample import ProvenanceValue
from factory.spec import TextToImageGenerator
from factory.text_schedulers import check_sides, steps_of


class TextSampler:
    """A loaded text-to-image model; swaps adapters between batches."""

    def __init__(self, resolved: Resolved, device: torch.device) -> None:
        """Load the model of `resolved` and place it on `device`.

        Raises:
            SpecError: if the model cannot be had or not do what is asked of it, or cannot start
                from the images that are named.
        """
        disable_progress_bar()
        spec, source = resolved.spec, open_start(resolved.spec)
        assert isinstance(spec.generator, TextToImageGenerator)
        assert isinstance(resolved.model, PipelineFolder)
        assert resolved.prompts is not None
        self.device = describe(device, "transformers", "peft")
        self._generator = spec.generator
        self._prompts = resolved.prompts
        self._adapters = resolved.adapters
        check_sides(spec.generator, None if source is None else source.images.shape[1:3])
        self._originals: Originals | None = None
        if source is not None:
            assert spec.reconstruct is not None
            num_steps = spec.generator.num_inference_steps
            self._originals = Originals(source, steps_of(spec.reconstruct, num_steps))
        self._adapted = AdaptedPipeline(
            resolved.model,
            spec.generator,
            resolved.adapters,
            device,
            has_start=source is not None,
        )

    @property
    def seconds_swapping(self) -> float:
        """Time spent on changing adapters, in all."""
        return self._adapted.seconds_swapping

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Draw one image for each candidate; with adapters all of one class.

        Each image's noise comes from a stream of its own, drawn on the CPU; of a reconstruction
        the stream gives its strength first.

        Raises:
            ValueError: if the network gave NaN.
        """
        names = [str(candidate.class_name) for candidate in batch]
        seeds = [candidate.seed for candidate in batch]
        before = self._adapted.seconds_swapping
        if self._adapters:
            assert len(set(names)) == 1, "a shard of adapters holds one class"
            self._adapted.wear(self._adapters[names[0]])
        swapping = self._adapted.seconds_swapping - before
        streams = [stream(seed) for seed in seeds]
        prompts = [
            draw_prompt(self._prompts, name, seed) for name, seed in zip(names, seeds, strict=True)
        ]
        facts = [self._facts(*named) for named in zip(names, prompts, strict=True)]
        if self._originals is None:
            images, flagged = self._draw(prompts, streams, **self._size())
        else:
            originals = [self._originals.original(*own) for own in zip(batch, streams, strict=True)]
            images, flagged = self._redraw(prompts, streams, originals)
            facts = [
                fact | self._start_facts(original)
                for fact, original in zip(facts, originals, strict=True)
            ]
        rejected = tuple("safety" if is_flagged else None for is_flagged in flagged)
        return Drawn(images, tuple(facts), rejected, swapping)

    def _facts(self, class_name: str, prompt: str) -> dict[str, ProvenanceValue]:
        facts: dict[str, ProvenanceValue] = {
            "prompt": prompt,
            "negative_prompt": self._generator.negative_prompt,
        }
        if self._adapters:
            facts["adapter"] = self._adapters[class_name].digest[:12]
        return facts

    def _start_facts(self, original: Original) -> dict[str, ProvenanceValue]:
        return {
            "strength": original.t_re / self._generator.num_inference_steps,
            "source_image": original.facts["source_image"],
            "source_pass": original.facts["source_pass"],
        }

    def _redraw(
        self,
        prompts: Sequence[str],
        streams: Sequence[torch.Generator],
        originals: Sequence[Original],
    ) -> tuple[NDArray[np.uint8], list[bool]]:
        # A scheduler moves all images of a call from one step: one call for each start.
        places: dict[int, list[int]] = {}
        for place, original in enumerate(originals):
            places.setdefault(original.t_re, []).append(place)
        images = np.empty((len(originals), *originals[0].image.shape[:2], 3), np.uint8)
        flagged = [False] * len(originals)
        for num_steps, chosen in places.items():
            drawn, flags = self._draw(
                [prompts[place] for place in chosen],
                [streams[place] for place in chosen],
                **self._start([originals[place].image for place in chosen], num_steps),
            )
            images[chosen] = drawn
            for place, flag in zip(chosen, flags, strict=True):
                flagged[place] = flag
        return images, flagged

    def _start(self, images: list[NDArray[np.uint8]], num_steps: int) -> dict[str, Any]:
        x = to_float(np.stack(images)).expand(-1, 3, -1, -1)
        # The pipeline rounds strength times steps down, and half a step keeps it from missing one.
        strength = min(1.0, (num_steps + 0.5) / self._generator.num_inference_steps)
        # It takes tensors in [0, 1].
        return {"image": (x + 1) / 2, "strength": strength}

    def _draw(
        self, prompts: list[str], streams: list[torch.Generator], **start: Any
    ) -> tuple[NDArray[np.uint8], list[bool]]:
        """Images uint8 [N, H, W, 3], and which ones the safety checker flagged."""
        spec = self._generator
        if spec.negative_prompt:
            # Not an empty one: without any, XL guides away from zeros.
            start["negative_prompt"] = [spec.negative_prompt] * len(prompts)
        output = self._adapted.pipeline(
            prompts,
            num_inference_steps=spec.num_inference_steps,
            guidance_scale=spec.guidance_scale,
            generator=streams,
            output_type="pt",
            **start,
        )
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(prompts)
        return to_uint8(output.images.float() * 2 - 1), flagged

    def _size(self) -> dict[str, int | None]:
        return {"height": self._generator.height, "width": self._generator.width}
