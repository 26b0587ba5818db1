"""Arms, networks and settings in words that a reader of the report understands."""

from factory.spec import Arm, Classifier, ClassifierTraining

_REGIMES = {
    "scratch": "from scratch",
    "fine_tune": "pre-trained, all layers trained",
    "frozen": "pre-trained, only the last layer trained",
}
_PRECISIONS = {
    "auto": "bf16 where the device is made for it",
    "no": "float32",
    "bf16": "bf16",
}


def mix_in_words(arm: Arm) -> str:
    """E.g. "all real + 500 synthetic of each class, in paired batches"."""
    if arm.synthetic_ratio is not None:
        return f"{_mix(arm)}, {arm.synthetic_ratio:.0%} of every batch synthetic"
    return _mix(arm) + (", in paired batches" if arm.batches == "paired" else "")


def _mix(arm: Arm) -> str:
    mix = arm.mix
    match mix.kind:
        case "real":
            return "all real"
        case "add":
            return f"all real + {_counts(mix.images_per_class)}"
        case "fill":
            return f"all real, each class filled up to {_target(mix.images_per_class)}"
        case "oversample":
            return f"all real, repeated up to {_target(mix.images_per_class)}"
        case "replace":
            return f"{mix.fraction:.0%} of the real replaced by synthetic"
        case "keep":
            return f"the {1 - mix.fraction:.0%} of the real that a replacement keeps"
        case "ratio":
            total = "as many as real" if mix.num_images is None else f"{mix.num_images:,} in all"
            return f"{mix.synthetic_ratio:.0%} synthetic, {total}"
        case "multiplier":
            with_real = "all real + " if mix.with_real else ""
            return f"{with_real}{mix.multiplier:g} x as many synthetic"


def _counts(counts: int | dict[str, int]) -> str:
    if isinstance(counts, int):
        return f"{counts:,} synthetic of each class"
    return "synthetic " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _target(images_per_class: int | None) -> str:
    return "the largest class" if images_per_class is None else f"{images_per_class:,} images"


def network_in_words(classifier: Classifier) -> str:
    """E.g. "resnet18, width 16, small stem, from scratch"."""
    words = [classifier.network]
    if classifier.network.startswith("resnet"):
        words += [f"width {classifier.width}", f"{classifier.stem} stem"]
    if classifier.weights is not None:
        words.append(classifier.weights)
    if classifier.image_size is not None:
        words.append(f"at {classifier.image_size} px")
    return ", ".join([*words, _REGIMES[classifier.regime]])


def training_in_words(training: ClassifierTraining) -> str:
    """E.g. "20 epochs of batches of 128, SGD at 0.1 (one_cycle), bf16"."""
    length = f"{training.num_steps:,} steps" if training.num_steps else f"{training.epochs} epochs"
    words = [
        f"{length} of batches of {training.batch_size}",
        f"{training.optimizer.upper()} at {training.learning_rate:g} ({training.schedule})",
    ]
    if training.label_smoothing:
        words.append(f"label smoothing {training.label_smoothing:g}")
    if training.augmentation != "none":
        words.append(training.augmentation)
    if training.validation is not None:
        words.append(f"{training.validation.fraction:.0%} held out for validation")
        if training.validation.patience is not None:
            words.append(f"stopped after {training.validation.patience} epochs without gain")
    return ", ".join([*words, _PRECISIONS[training.mixed_precision]])
