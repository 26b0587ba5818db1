"""Train a model with Ray Train; the same call after any interruption goes on."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from factory.cluster import ActorShape, connect
from factory.diffusion.device import describe, pick_device
from factory.fit.card import write_card
from factory.fit.follow import Follow
from factory.fit.history import (
    HISTORY_NAME,
    LOSS_NAME,
    MODEL_FOLDER,
    REPORT_NAME,
    FitReport,
    Referee,
    Row,
    Verdict,
    best_sample,
    kept_of,
    lowest_loss,
    verdicts_of,
)
from factory.fit.judge import Judge
from factory.fit.kinds import make_trainee
from factory.fit.pictures import loss_curves
from factory.fit.prepare import Prepared, claim, finished, open_sources
from factory.fit.schedule import make_schedule
from factory.fit.train import Trainer
from factory.precision import pick_precision
from factory.records import Device
from factory.sources.source import Source
from factory.spec import FitSpec, SpecError
from factory.store import Store
from factory.vision.small_cnn import SmallCnn, train_small_cnn

_LOG = logging.getLogger(__name__)

_STATE, _JUDGE, _KEPT = "state.pt", "judge.pt", "kept"
"""Files and folder of a checkpoint."""
_ROWS_PER_CHECKPOINT = 20
_COLLECTIVE_TIMEOUT_SECONDS = 3600
"""The other workers wait this long while the first one trains and asks the judge."""


def run(prepared: Prepared, address: str | None = None) -> FitReport:
    """Train as long as the spec says, and put the checkpoint to keep under `<root>/model`.

    Args:
        prepared: the fit, checked.
        address: Ray cluster to use (see `connect`).

    Raises:
        SpecError: if the root cannot be written or the cluster is too small.
        ray.train.TrainingFailedError: if the workers failed more often than is retried.
    """
    before = finished(prepared)
    if before is not None:
        return before.model_copy(update={"skipped": True})
    claim(prepared)
    store = Store(prepared.root)
    with connect(address):
        trainer = _trainer(prepared)
        _LOG.info("the judging classifier is trained first, then the model")
        schedule = make_schedule(prepared.spec, len(prepared.source))
        with Follow(store, num_images=schedule.num_images):
            result = trainer.fit()
    if result.checkpoint is None:
        raise SpecError(f"{prepared.root}: holds no checkpoint of this fit; give another --root")
    with result.checkpoint.as_directory() as folder:
        return _publish(prepared, store, Path(folder))


def _trainer(prepared: Prepared) -> TorchTrainer:
    spec = prepared.spec
    shape = ActorShape(spec.resources, threads=spec.threads)
    return TorchTrainer(
        _work,
        train_loop_config={
            "spec": spec.model_dump(mode="json"),
            "root": prepared.root,
            "digests": (prepared.source.digest, prepared.held_out.digest),
            "start": prepared.start,
            "autoencoder": prepared.autoencoder,
        },
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_SECONDS),
        scaling_config=shape.group(spec.num_workers),
        run_config=RunConfig(
            name=prepared.root_spec.fingerprint,
            storage_path=f"{prepared.root}/train",
            failure_config=FailureConfig(max_failures=2),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """What each worker does; the first one also judges and writes to the root."""
    spec = FitSpec.model_validate(config["spec"])
    source, held_out = open_sources(spec)
    found = (source.digest, held_out.digest)
    if found != tuple(config["digests"]):
        raise SpecError(
            f"source {spec.source.path}: has the digests {found} here, but {config['digests']} "
            "where the job was started; let all machines read the same files"
        )
    accelerator = Accelerator(
        mixed_precision=pick_precision(pick_device(), spec.training.mixed_precision),
        gradient_accumulation_steps=spec.training.gradient_accumulation_steps,
    )
    torch.set_num_threads(spec.threads)
    start, autoencoder = (
        None if config[part] is None else config[part].local() for part in ("start", "autoencoder")
    )
    trainee = make_trainee(spec, source, accelerator.device, start, autoencoder)
    trainer = Trainer(spec, source, trainee, accelerator)
    with tempfile.TemporaryDirectory() as folder:
        worker = _Worker(spec, trainer, accelerator, Store(config["root"]), Path(folder))
        worker.resume()
        if accelerator.is_main_process and not trainer.done:
            worker.judge = worker.make_judge(source, held_out)
        while not trainer.done:
            worker.train()
            worker.checkpoint(held_out)


class _Worker:
    """A worker's trainer, and a folder with the files of its next checkpoint."""

    def __init__(
        self,
        spec: FitSpec,
        trainer: Trainer,
        accelerator: Accelerator,
        store: Store,
        folder: Path,
    ) -> None:
        self._spec = spec
        self._trainer = trainer
        self._accelerator = accelerator
        self._store = store
        self._folder = folder
        self.judge: Judge | None = None

    def resume(self) -> None:
        """Go on from the run's newest checkpoint, if it has one."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        checkpoint.to_directory(self._folder)
        self._trainer.load(self._folder / _STATE)

    def make_judge(self, source: Source, held_out: Source) -> Judge:
        """The run's classifier, trained once; it stays in the checkpoints."""
        path, device = self._folder / _JUDGE, self._accelerator.device
        if not path.exists():
            count = self._spec.metric.classifier_images
            train_small_cnn(source, num_images=count, seed=self._spec.seed, device=device).save(
                path
            )
        return Judge(self._spec, source, held_out, SmallCnn.load(path).to(device))

    def train(self) -> None:
        """Make steps until the next checkpoint is due, or the end."""
        trainer, every_images = self._trainer, self._trainer.schedule.every_images
        row_images = max(1, every_images // _ROWS_PER_CHECKPOINT)
        ended = False
        while not ended:
            before = trainer.images_seen
            trainer.advance()
            ended = trainer.done or trainer.images_seen // every_images > before // every_images
            if ended or trainer.images_seen // row_images > before // row_images:
                trainer.close_row()
                if self._accelerator.is_main_process:
                    self._put_history()

    def checkpoint(self, held_out: Source) -> None:
        """Judge the model as it is now, and hand a checkpoint to Ray Train."""
        history = self._trainer.history
        verdict = None if self.judge is None else self._judge(self.judge, held_out)
        # All workers get the verdict: it may end the run for all of them.
        verdict = broadcast_object_list([verdict])[0]
        history[-1] = history[-1].model_copy(update={"verdict": verdict})
        row = history[-1].model_dump(mode="json")
        if self.judge is None:
            ray.train.report(row)
            return
        self._put_history()
        self._store.put(LOSS_NAME, loss_curves(history))
        self._trainer.save(self._folder / _STATE)
        (self._folder / "referee.json").write_text(self.judge.referee.model_dump_json())
        (self._folder / "device.json").write_text(
            describe(self._accelerator.device, "accelerate", "ray").model_dump_json()
        )
        ray.train.report(row, checkpoint=Checkpoint.from_directory(self._folder))

    def _judge(self, judge: Judge, held_out: Source) -> Verdict:
        images, fresh = self._trainer.images_seen, self._folder / "fresh"
        self._trainer.snapshot(fresh)
        verdict, grid = judge(
            fresh,
            self._accelerator.device,
            images_seen=images,
            validation_loss=self._trainer.validation_loss(held_out),
        )
        verdicts = [*verdicts_of(self._trainer.history), verdict]
        if kept_of(verdicts, self._spec.metric.keep) is verdict:
            shutil.rmtree(self._folder / _KEPT, ignore_errors=True)
            fresh.rename(self._folder / _KEPT)
        shutil.rmtree(fresh, ignore_errors=True)
        self._store.put(f"grids/{images:08d}.png", grid)
        return verdict

    def _put_history(self) -> None:
        lines = [row.model_dump_json(exclude_none=True) for row in self._trainer.history]
        self._store.put(HISTORY_NAME, ("\n".join(lines) + "\n").encode())


def _publish(prepared: Prepared, store: Store, folder: Path) -> FitReport:
    """Copy the kept model from a checkpoint into the root, with its card; the report comes last."""
    state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    history = [Row.model_validate(row) for row in state["history"]]
    verdicts = verdicts_of(history)
    schedule = make_schedule(prepared.spec, len(prepared.source))
    report = FitReport(
        root=prepared.root,
        model=f"{prepared.root}/{MODEL_FOLDER}",
        fingerprint=prepared.root_spec.fingerprint,
        source=prepared.source.name,
        source_digest=prepared.source.digest,
        num_source_images=len(prepared.source),
        num_images=history[-1].images,
        stopped_early=history[-1].images < schedule.num_images,
        num_parameters=sum(weight.numel() for weight in state["average"]),
        loss=history[-1].loss,
        kept=kept_of(verdicts, prepared.spec.metric.keep),
        best_sample=best_sample(verdicts),
        lowest_loss=lowest_loss(verdicts),
        referee=Referee.model_validate_json((folder / "referee.json").read_bytes()),
        training_seconds=history[-1].seconds,
        images_per_second=history[-1].images / history[-1].seconds,
        num_workers=prepared.spec.num_workers,
        device=Device.model_validate_json((folder / "device.json").read_bytes()),
    )
    for file in sorted(path for path in (folder / _KEPT).rglob("*") if path.is_file()):
        store.put(
            f"{MODEL_FOLDER}/{file.relative_to(folder / _KEPT).as_posix()}", file.read_bytes()
        )
    store.put(f"{MODEL_FOLDER}/README.md", write_card(prepared, report).encode())
    store.put(REPORT_NAME, (report.model_dump_json(indent=2) + "\n").encode())
    return report
