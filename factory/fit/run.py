"""Train a model with Ray Train; the same call after any interruption goes on."""

import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from accelerate import Accelerator
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from factory.cluster import ActorShape, connect
from factory.diffusion.device import describe
from factory.fit.card import write_card
from factory.fit.follow import Follow
from factory.fit.history import HISTORY_NAME, MODEL_FOLDER, REPORT_NAME, FitReport, Referee, Row
from factory.fit.judge import Judge
from factory.fit.prepare import Prepared, claim, finished, local_folder, open_sources
from factory.fit.train import Trainer
from factory.records import Device
from factory.sources.source import Source
from factory.spec import FitSpec, SpecError
from factory.store import Store
from factory.vision.small_cnn import SmallCnn, train_small_cnn

_LOG = logging.getLogger(__name__)

_STATE, _JUDGE, _BEST = "state.pt", "judge.pt", "best"
"""Files and folder of a checkpoint."""
_ROWS_PER_CHECKPOINT = 20
_COLLECTIVE_TIMEOUT_SECONDS = 3600
"""The other workers wait this long while the first one trains and asks the judge."""


def run(prepared: Prepared, address: str | None = None) -> FitReport:
    """Train until the spec's images are seen, and put the best model under `<root>/model`.

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
        with Follow(store, num_images=prepared.spec.training.num_images):
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
        mixed_precision=spec.training.mixed_precision,
        gradient_accumulation_steps=spec.training.gradient_accumulation_steps,
    )
    torch.set_num_threads(spec.threads)
    start = None if config["start"] is None else local_folder(config["start"])
    trainer = Trainer(spec, source, accelerator, start)
    with tempfile.TemporaryDirectory() as folder:
        worker = _Worker(trainer, accelerator, Store(config["root"]), Path(folder))
        worker.resume()
        if accelerator.is_main_process and not trainer.done:
            worker.judge = worker.make_judge(spec, source, held_out)
        while not trainer.done:
            worker.train(spec.metric.every_images)
            worker.checkpoint()


class _Worker:
    """A worker's trainer, and a folder with the files of its next checkpoint."""

    def __init__(
        self, trainer: Trainer, accelerator: Accelerator, store: Store, folder: Path
    ) -> None:
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

    def make_judge(self, spec: FitSpec, source: Source, held_out: Source) -> Judge:
        """The run's classifier, trained once; it stays in the checkpoints."""
        path, device = self._folder / _JUDGE, self._accelerator.device
        if not path.exists():
            count = spec.metric.classifier_images
            train_small_cnn(source, num_images=count, seed=spec.seed, device=device).save(path)
        return Judge(spec, source, held_out, SmallCnn.load(path).to(device))

    def train(self, every_images: int) -> None:
        """Make steps until the next multiple of `every_images`, or the end."""
        trainer, row_images = self._trainer, max(1, every_images // _ROWS_PER_CHECKPOINT)
        ended = False
        while not ended:
            before = trainer.images_seen
            trainer.advance()
            ended = trainer.done or trainer.images_seen // every_images > before // every_images
            if ended or trainer.images_seen // row_images > before // row_images:
                trainer.close_row()
                if self._accelerator.is_main_process:
                    self._put_history()

    def checkpoint(self) -> None:
        """Judge the model as it is now, and hand a checkpoint to Ray Train."""
        row = self._trainer.history[-1]
        if self.judge is None:
            ray.train.report(row.model_dump(mode="json"))
            return
        self._judge(self.judge)
        self._trainer.save(self._folder / _STATE)
        (self._folder / "referee.json").write_text(self.judge.referee.model_dump_json())
        (self._folder / "device.json").write_text(_device(self._accelerator).model_dump_json())
        row = self._trainer.history[-1]
        ray.train.report(
            row.model_dump(mode="json"), checkpoint=Checkpoint.from_directory(self._folder)
        )

    def _judge(self, judge: Judge) -> None:
        history, images = self._trainer.history, self._trainer.images_seen
        fresh = self._folder / "fresh"
        self._trainer.snapshot(fresh)
        verdict, grid = judge(fresh, images, self._accelerator.device)
        others = [row.verdict.frechet_distance for row in history if row.verdict]
        if verdict.frechet_distance < min(others, default=float("inf")):
            shutil.rmtree(self._folder / _BEST, ignore_errors=True)
            fresh.rename(self._folder / _BEST)
        shutil.rmtree(fresh, ignore_errors=True)
        history[-1] = history[-1].model_copy(update={"verdict": verdict})
        self._store.put(f"grids/{images:08d}.png", grid)
        self._put_history()

    def _put_history(self) -> None:
        lines = [row.model_dump_json(exclude_none=True) for row in self._trainer.history]
        self._store.put(HISTORY_NAME, ("\n".join(lines) + "\n").encode())


def _device(accelerator: Accelerator) -> Device:
    device = describe(accelerator.device)
    more = {name: version(name) for name in ("accelerate", "ray")}
    return device.model_copy(update={"versions": device.versions | more})


def _publish(prepared: Prepared, store: Store, folder: Path) -> FitReport:
    """Copy the best model from a checkpoint into the root, with its card; the report comes last."""
    state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    history = [Row.model_validate(row) for row in state["history"]]
    verdicts = [row.verdict for row in history if row.verdict]
    report = FitReport(
        root=prepared.root,
        model=f"{prepared.root}/{MODEL_FOLDER}",
        fingerprint=prepared.root_spec.fingerprint,
        source=prepared.source.name,
        source_digest=prepared.source.digest,
        num_source_images=len(prepared.source),
        num_images=history[-1].images,
        num_parameters=sum(weight.numel() for weight in state["average"]),
        loss=history[-1].loss,
        kept=min(verdicts, key=lambda verdict: verdict.frechet_distance),
        referee=Referee.model_validate_json((folder / "referee.json").read_bytes()),
        training_seconds=history[-1].seconds,
        images_per_second=history[-1].images / history[-1].seconds,
        num_workers=prepared.spec.num_workers,
        device=Device.model_validate_json((folder / "device.json").read_bytes()),
    )
    for file in sorted(path for path in (folder / _BEST).rglob("*") if path.is_file()):
        store.put(
            f"{MODEL_FOLDER}/{file.relative_to(folder / _BEST).as_posix()}", file.read_bytes()
        )
    store.put(f"{MODEL_FOLDER}/README.md", write_card(prepared, report).encode())
    store.put(REPORT_NAME, (report.model_dump_json(indent=2) + "\n").encode())
    return report
