"""Run the trainings of a comparison on Ray, side by side, and report them."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, UserCallback
from ray.train.torch import TorchTrainer

from factory.classify.arms import PreparedArm, Sources
from factory.classify.compare import make_report
from factory.classify.pages import report_html, verdict_sentence
from factory.classify.pictures import draw_pictures
from factory.classify.prepare import Prepared, classifier_folder, record_name
from factory.classify.results import ClassifyReport, Epoch, TrialRecord
from factory.classify.train import Workers
from factory.classify.trial import Trial, train_one
from factory.classify.zero_shot import zero_shot_result
from factory.cluster import ActorShape, connect, reason_of, run_tasks
from factory.pages.folder import save_report
from factory.progress import duration
from factory.records import ASKED_NAME
from factory.spec import ClassifySpec
from factory.store import Store

_LOG = logging.getLogger(__name__)
_STORE_MARGIN = 1.5
"""Object store of a private instance, over the bytes of the sources that lie in it."""


def run(
    prepared: Prepared,
    address: str | None = None,
    *,
    runtime_env: dict[str, Any] | None = None,
) -> ClassifyReport:
    """Train what has no record yet, compare the arms, and write the reports into the root.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.
        runtime_env: as `cluster.run_tasks` takes it; of trainings on one worker.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
        TrainingFailed: if the baseline is left without any finished training.
    """
    started = time.monotonic()
    store, spec = Store(prepared.root), prepared.spec
    store.check_makeable()
    store.put(ASKED_NAME, spec.model_dump_json(indent=1).encode())
    zero_shot = zero_shot_result(store, spec.zero_shot, prepared.sources.test)
    pending = prepared.pending()
    failures: dict[str, str] = {}
    if pending:
        with connect(address, object_store_bytes=int(_STORE_MARGIN * _num_bytes(prepared))):
            if spec.num_workers == 1:
                results = _side_by_side(prepared, pending, runtime_env)
            else:
                results = _one_by_one(prepared, pending)
            failures = _follow(results, len(pending))
    report = make_report(
        prepared,
        zero_shot=zero_shot,
        made=len(pending) - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
    )
    pictures = draw_pictures(report, prepared.sources)
    save_report(store, report, report_html(report, spec, pictures), pictures)
    for warning in report.warnings:
        _LOG.warning("%s", warning)
    for verdict in report.verdicts:
        _LOG.info("%s", verdict_sentence(verdict, spec.confidence))
    if spec.save_classifiers:
        for name, arm in report.arms.items():
            saved = f"{store.url}/{classifier_folder(arm.fingerprint, 0)}"
            _LOG.info("the first of %d classifiers of %s: %s", spec.num_seeds, name, saved)
    _LOG.info("look at %s", report.html)
    return report


def _num_bytes(prepared: Prepared) -> int:
    sources = prepared.sources
    both = [s for s in (sources.real, sources.validation, sources.test) if s is not None]
    return sum(source.images.nbytes for source in [*both, *sources.synthetic.values()])


def _follow(results: Iterator[TrialRecord | tuple[str, str]], num_pending: int) -> dict[str, str]:
    failures: dict[str, str] = {}
    started = time.monotonic()
    for done, result in enumerate(results, start=1):
        if isinstance(result, TrialRecord):
            left = (time.monotonic() - started) / done * (num_pending - done)
            _LOG.info(
                "%d of %d trainings: %s, seed %d: top-1 %.2f %% (%.0f images/s), %s to go",
                done,
                num_pending,
                result.arm,
                result.trial,
                100 * result.top1,
                result.images_per_second,
                duration(left),
            )
        else:
            name, why = result
            failures[name] = why
            _LOG.warning("%s failed: %s", name, why)
    return failures


def _side_by_side(
    prepared: Prepared, pending: list[tuple[str, int]], runtime_env: dict[str, Any] | None
) -> Iterator[TrialRecord | tuple[str, str]]:
    """As many trainings at once as fit."""
    spec = prepared.spec
    # One copy on each machine: arrays in the object store are mapped, not copied.
    shared = ray.put((prepared.sources, prepared.arms))
    asked = {(arm, trial): (spec, prepared.root, shared, arm, trial) for arm, trial in pending}
    for (arm, trial), record in run_tasks(
        train_one, asked, resources=spec.resources, threads=spec.threads, runtime_env=runtime_env
    ):
        if isinstance(record, Exception):
            yield f"{arm}, seed {trial}", reason_of(record)
        else:
            yield record


def _one_by_one(
    prepared: Prepared, pending: list[tuple[str, int]]
) -> Iterator[TrialRecord | tuple[str, str]]:
    """Each training on several workers of Ray Train."""
    shared = ray.put((prepared.sources, prepared.arms))
    for arm, trial in pending:
        try:
            yield train_on_workers(
                prepared.spec, prepared.root, prepared.arms[arm], trial, shared=[shared]
            )
        except ray.train.TrainingFailedError as error:
            yield f"{arm}, seed {trial}", str(error)


def train_on_workers(
    spec: ClassifySpec,
    root: str,
    arm: PreparedArm,
    trial: int,
    *,
    shared: list[ray.ObjectRef],
    callbacks: Sequence[UserCallback] = (),
) -> TrialRecord:
    """One training on `spec.num_workers` workers of Ray Train.

    Args:
        spec: the comparison.
        root: absolute path or URL.
        arm: what to train.
        trial: number of its seed.
        shared: reference to the sources and the arms, in a list so that it is handed on as it is.
        callbacks: are told of each epoch: its percent of the training, and its accuracy on the
            validation images.

    Raises:
        SpecError: if the workers do not fit.
        TrainingFailedError: if they fail three times.
    """
    TorchTrainer(
        _work,
        train_loop_config={
            "spec": spec.model_dump(mode="json"),
            "root": root,
            "shared": shared,
            "arm": arm.name,
            "trial": trial,
            "is_followed": bool(callbacks),
        },
        scaling_config=ActorShape(spec.resources, threads=spec.threads).group(spec.num_workers),
        run_config=RunConfig(
            name=f"{arm.fingerprint}-{trial}",
            storage_path=f"{root}/train",
            failure_config=FailureConfig(max_failures=2),
            callbacks=list(callbacks),
        ),
    ).fit()
    return TrialRecord.model_validate_json(Store(root).get(record_name(arm.fingerprint, trial)))


def _work(config: dict[str, Any]) -> None:
    """What each worker does; the first one also writes to the root."""
    sources: Sources
    arms: dict[str, PreparedArm]
    sources, arms = ray.get(config["shared"][0])
    spec = ClassifySpec.model_validate(config["spec"])
    context = ray.train.get_context()
    workers = Workers(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        wrap=ray.train.torch.prepare_model,
        share=_share,
        mean=_mean,
    )
    train = Trial(spec, config["root"], sources, arms)
    device, num_steps = ray.train.torch.get_device(), arms[config["arm"]].num_steps
    for row in train.follow(config["arm"], config["trial"], device, workers):
        # One that has done all of its steps is not stopped: its record follows.
        if config["is_followed"] and isinstance(row, Epoch) and row.step < num_steps:
            percent = 100 * row.step // num_steps
            ray.train.report({"percent": percent, "accuracy": row.validation_accuracy})


def _share(network: torch.nn.Module) -> None:
    """Give every worker the first one's buffers: running statistics differ between workers."""
    for buffer in network.buffers():
        torch.distributed.broadcast(buffer, src=0)


def _mean(values: torch.Tensor) -> torch.Tensor:
    torch.distributed.all_reduce(values)
    return values / torch.distributed.get_world_size()
