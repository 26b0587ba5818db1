"""The zero-shot baseline: class names alone, no training image."""

import numpy as np

from factory.classify.results import ZeroShotResult
from factory.diffusion.device import pick_device
from factory.metrics.classification import accuracy, macro_f1, per_class_accuracy
from factory.sources.source import Source
from factory.spec import ZeroShot, fingerprint
from factory.store import Store
from factory.vision.zero_shot import zero_shot_probabilities


def zero_shot_result(store: Store, spec: ZeroShot | None, test: Source) -> ZeroShotResult | None:
    """Score a CLIP model on the test images, if `spec` asks for one; once for each root."""
    if spec is None:
        return None
    identity = {"zero_shot": spec.model_dump(mode="json"), "test": test.digest}
    name = f"zero_shot/{fingerprint(identity)}.json"
    if store.exists(name):
        return ZeroShotResult.model_validate_json(store.get(name))
    probabilities = zero_shot_probabilities(
        spec, test.images, test.class_names, device=pick_device()
    )
    own = per_class_accuracy(test.labels, probabilities)
    result = ZeroShotResult(
        model=spec.model,
        prompt=spec.prompt,
        top1=accuracy(test.labels, probabilities),
        macro_f1=macro_f1(test.labels, probabilities),
        per_class_accuracy={
            class_name: float(own[label])
            for label, class_name in enumerate(test.class_names)
            if np.isfinite(own[label])
        },
    )
    store.put(name, result.model_dump_json(indent=1).encode())
    return result
