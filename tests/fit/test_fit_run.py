import json

import pytest
import torch
from accelerate import Accelerator

from factory.diffusion.edm import EdmPipeline
from factory.fit.prepare import dry_run, open_sources, prepare
from factory.fit.train import Trainer
from factory.spec import EdmGenerator
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
    assert report.source_digest in (root / "model" / "README.md").read_text()

    alone = Trainer(spec, open_sources(spec)[0], Accelerator(cpu=True))
    while alone.images_seen < report.kept.images:
        alone.advance()
    kept = EdmPipeline.from_pretrained(root / "model", dtype=torch.float16)
    for a, b in zip(kept.unet.parameters(), alone.state()["average"], strict=True):
        assert torch.allclose(a.float(), b, atol=2e-3)

    from factory.resolve import open_model

    assert open_model(EdmGenerator(model=report.model)).class_names == ("flat", "rows", "columns")
    again = prepare(spec, str(root))
    assert dry_run(again).done
    assert run(again) == report.model_copy(update={"skipped": True})
