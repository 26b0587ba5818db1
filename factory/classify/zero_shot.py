"""The zero-shot baseline: class names alone, no training image."""

import numpy as np

from factory.classify.results import ZeroShotResult
from factory.diffusion.device import pick_device
from factory.metrics.classification import accuracy, macro_f1, per_class_accuracy
from factory.sources.source import Source
from factory.spec import ZeroShot
from factory.vision.zero_shot import zero_shot_probabilities


def zero_shot_result(spec: ZeroShot | None, test: Source) -> ZeroShotResult | None:
    """Score a CLIP model on the test images, if `spec` asks for one."""
    if spec is None:
        return None
    probabilities = zero_shot_probabilities(
        spec, test.images, test.class_names, device=pick_device()
    )
    own = per_class_accuracy(test.labels, probabilities)
    return ZeroShotResult(
        model=spec.model,
        prompt=spec.prompt,
        top1=accuracy(test.labels, probabilities),
        macro_f1=macro_f1(test.labels, probabilities),
        per_class_accuracy={
            name: float(own[label])
            for label, name in enumerate(test.class_names)
            if np.isfinite(own[label])
        },
    )
