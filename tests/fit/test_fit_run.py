import json

import pytest
import torch
from accelerate import Accelerator

from factory.diffusion.edm import EdmPipeline
from factory.fit.kinds import make_trainee
from factory.fit.prepare import dry_run, open_sources, prepare, read_history
from factory.fit.train import Trainer
from factory.spec import DdpmGenerator, EdmGenerator
from factory.store import Store
from tests.striped import tiny_fit

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_two_workers_train_the_model_of_one_process_and_the_root_tells_all(ray_cluster, tmp_path):
    from factory.fit.run import run

    spec = tiny_fit(tmp_path, num_workers=2)
    root = tmp_path / "root"
    report = run(prepare(spec, str(root)))

    rows = [json.loads(line) for line in (root / "history.jsonl").read_text().splitlines()]
    verdicts = [row["verdict"] for row in rows if "verdict" in row]
    assert [verdict["images"] for verdict in verdicts] == [48, 96]
    assert report.kept.frechet_distance == min(v["frechet_distance"] for v in verdicts)
    assert sorted(path.name for path in (root / "grids").iterdir()) == [
        "00000048.png",
        "00000096.png",
    ]
    assert (root / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert report.best_sample == report.kept
    assert report.lowest_loss.validation_loss == min(v["validation_loss"] for v in verdicts)
    assert not report.stopped_early
    assert report.source_digest in (root / "model" / "README.md").read_text()

    source = open_sources(spec)[0]
    trainee = make_trainee(spec, source, torch.device("cpu"))
    alone = Trainer(spec, source, trainee, Accelerator(cpu=True))
    while alone.images_seen < report.kept.images:
        alone.advance()
    kept = EdmPipeline.from_pretrained(root / "model", dtype=torch.float16)
    for a, b in zip(kept.unet.parameters(), alone.state()["average"], strict=True):
        assert torch.allclose(a.float(), b, atol=2e-3)

    from factory.models import open_model

    assert open_model(EdmGenerator(model=report.model)).class_names == ("flat", "rows", "columns")
    again = prepare(spec, str(root))
    assert dry_run(again).done
    assert run(again) == report.model_copy(update={"skipped": True})


@pytest.mark.slow
def test_unconditional_ddpm_stops_early_for_all_workers_and_leaves_a_model_that_loads(
    ray_cluster, tmp_path
):
    from factory.fit.run import run
    from factory.models import open_model

    # So small a rate moves no weight: no later checkpoint has a lower loss than the first.
    spec = tiny_fit(
        tmp_path,
        objective={"kind": "ddpm", "num_train_timesteps": 100},
        conditional=False,
        num_workers=2,
        training={"num_images": 1_600, "learning_rate": 1e-30, "early_stopping_patience": 2},
        metric={
            "every_images": 16,
            "keep": "lowest_loss",
            "num_samples": 100,
            "num_inference_steps": 2,
            "classifier_images": 1_000,
        },
    )
    root = tmp_path / "root"
    report = run(prepare(spec, str(root)))
    assert report.stopped_early
    assert report.lowest_loss.images == 16
    assert report.kept == report.lowest_loss
    assert report.kept.agreement is None
    assert [row.images for row in read_history(Store(str(root))) if row.verdict] == [16, 32, 48]
    model = open_model(DdpmGenerator(kind="ddpm", model=report.model))
    assert model.class_names == ()
    card = (root / "model" / "README.md").read_text()
    assert "generator.kind=ddpm labels=as_found" in card
    assert "seen as the class" not in card
