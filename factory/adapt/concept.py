"""Learn one concept from start, or from its checkpoint, to its record; knows nothing of Ray."""

import io
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline

from factory.adapt.dreambooth import LoraWeights, WholeModel
from factory.adapt.load import load_pipeline
from factory.adapt.pictures import concept_picture, draw
from factory.adapt.prepare import Concept, adapter_kind
from factory.adapt.textual_inversion import NewWord
from factory.adapt.train import Trainable, Trainer
from factory.adapters import Adapter, AdapterKind, files_digest, record_name
from factory.diffusion.device import describe, pick_device
from factory.models import PipelineFolder
from factory.precision import pick_precision
from factory.records import SPEC_NAME
from factory.seeds import hash_seed, seeded
from factory.spec import AdaptSpec, TextualInversion
from factory.store import Store

_PACKAGES = ("accelerate", "peft", "transformers")
"""Beside those of every record."""


class LearnConcept:
    """The trainings of one adaptation, one concept a call."""

    def __init__(self, spec: AdaptSpec, root: str, base: PipelineFolder, resolution: int) -> None:
        """Take what all concepts share; `root` is an absolute path or a URL."""
        self._spec = spec
        self._store = Store(root)
        self._base = base
        self._resolution = resolution
        self._kind: AdapterKind = adapter_kind(spec)

    def __call__(self, concept: Concept) -> Adapter:
        """Learn a concept; run again, it goes on.

        Returns:
            The record, which is also put into the root.

        Raises:
            ValueError: if the loss is no finite number.
            SpecError: if this machine does not see the root that the driver sees.
        """
        spec, accelerator = self._spec, _accelerator(self._spec)
        self._store.check_seen(SPEC_NAME)
        torch.set_num_threads(spec.threads)
        base = self._base.local()
        pipeline = load_pipeline(base, accelerator.device)
        before = draw(pipeline, spec, concept, concept.wording.words, self._resolution)
        with seeded(hash_seed(spec.seed, concept.class_name, "weights")):
            trainable = new_trainable(spec, concept, pipeline)
        trainer = Trainer(spec, concept, pipeline, trainable, accelerator)
        self._train(trainer, f"checkpoints/{concept.wording.slug}-{concept.fingerprint}.pt")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            trainable.save(folder)
            adapted = load_pipeline(base, accelerator.device, self._kind, folder)
            after = draw(adapted, spec, concept, concept.wording.phrase, self._resolution)
            picture = concept_picture(concept, before, after)
            return self._commit(concept, trainer, folder, picture, accelerator.device)

    def _train(self, trainer: Trainer, checkpoint: str) -> None:
        if self._store.exists(checkpoint):
            state = io.BytesIO(self._store.get(checkpoint))
            trainer.load(torch.load(state, map_location="cpu", weights_only=True))
        while not trainer.done:
            trainer.advance()
            if trainer.step % self._spec.training.checkpoint_steps == 0:
                state = io.BytesIO()
                torch.save(trainer.state(), state)
                self._store.put(checkpoint, state.getvalue())

    def _commit(
        self,
        concept: Concept,
        trainer: Trainer,
        folder: Path,
        picture: bytes,
        device: torch.device,
    ) -> Adapter:
        paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        digest = files_digest((name, path.read_bytes()) for name, path in paths.items())
        slug = concept.wording.slug
        adapter = Adapter(
            fingerprint=concept.fingerprint,
            class_name=concept.class_name,
            kind=self._kind,
            folder=f"adapters/{slug}-{digest[:8]}",
            phrase=concept.wording.phrase,
            files={name: path.stat().st_size for name, path in sorted(paths.items())},
            digest=digest,
            base=self._base.name,
            base_digest=self._base.digest,
            trained_on=concept.trained_on,
            num_steps=trainer.step,
            losses=trainer.losses(),
            seconds=round(trainer.seconds, 2),
            device=describe(device, *_PACKAGES),
        )
        for name, path in paths.items():
            self._store.put(f"{adapter.folder}/{name}", path.read_bytes())
        self._store.put(f"pictures/{slug}.png", picture)
        record = record_name(slug)
        if not self._store.create(record, adapter.model_dump_json(indent=1).encode()):
            return Adapter.model_validate_json(self._store.get(record))
        self._store.delete([f"checkpoints/{slug}-{concept.fingerprint}.pt"])
        return adapter


def new_trainable(
    spec: AdaptSpec, concept: Concept, pipeline: StableDiffusionPipeline
) -> Trainable:
    """What the spec's method trains of `pipeline`; weights come from torch's global generator."""
    method = spec.method
    if isinstance(method, TextualInversion):
        return NewWord(pipeline, concept, method)
    if method.lora is None:
        return WholeModel(pipeline, method)
    return LoraWeights(pipeline, method, method.lora)


def _accelerator(spec: AdaptSpec) -> Accelerator:
    return Accelerator(
        mixed_precision=pick_precision(pick_device(), spec.training.mixed_precision),
        gradient_accumulation_steps=spec.training.gradient_accumulation_steps,
    )
