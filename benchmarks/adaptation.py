"""What textual inversion and DreamBooth teach the embedded text-to-image model.

`python benchmarks/adaptation.py FOLDER [--model MODEL] [--work FOLDER] [--methods METHOD ...]`,
with train.parquet and test.parquet in FOLDER, lets the two classes that the model has not seen be
learned from 5 and from 20 of their real images by jobs/specs/adapt_fashion_mnist_*.yaml, with three
seeds each, draws 200 images of each class before and after by
jobs/specs/generate_fashion_mnist_text.yaml, and prints a Markdown table: the share in which a
classifier that was trained on the real images sees the wanted class, mean over the seeds with its
interval (Student's t, 95 %). Run it again to go on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from factory.metrics.evidence import seed_interval
from factory.sources.open import open_source
from factory.spec import SourceSpec
from factory.vision.small_cnn import SmallCnn, train_small_cnn

PROJECT = Path(__file__).parents[1]
CLASSES = ("Bag", "Ankle boot")
METHODS = ("textual_inversion", "dreambooth")
NUM_IMAGES = (5, 20)
SEEDS = range(3)
DRAWN = 200
SHAPE = {"image_size": 32, "channels": 3}


def main() -> None:
    """Learn, draw and look; print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="fashion_mnist_text")
    parser.add_argument("--work", type=Path, default=Path("results/adaptation"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    args = parser.parse_args()
    classifier, names = judge(args.folder, args.work)
    print("| method | images | class | before | after | each seed |")
    print("|---|---|---|---|---|---|")
    before = [
        draw(args.work / f"before-{seed}", seed, f"generator.model={args.model}") for seed in SEEDS
    ]
    for method in args.methods:
        for num_images in NUM_IMAGES:
            after = [adapted(args, method, num_images, seed) for seed in SEEDS]
            for name in CLASSES:
                shares = [
                    [share(classifier, names, root, name) for root in roots]
                    for roots in (before, after)
                ]
                seeds = ", ".join(f"{100 * value:.0f}" for value in shares[1])
                first, last = (in_words(values) for values in shares)
                print(
                    f"| {method} | {num_images} | {name} | {first} | {last} | {seeds} |", flush=True
                )


def judge(folder: Path, work: Path) -> tuple[SmallCnn, tuple[str, ...]]:
    """A classifier of real images, trained once, and its class names."""
    path = work / "judge.pt"
    train, test = (
        open_source(SourceSpec(path=str(folder / f"{split}.parquet"), **SHAPE))
        for split in ("train", "test")
    )
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        train_small_cnn(train, num_images=100_000, seed=0, device=torch.device("cpu")).save(path)
    network = SmallCnn.load(path)
    right = np.mean(network.look(test.images)[1] == test.labels)
    print(f"the classifier is right on {100 * right:.1f} % of the test images\n", flush=True)
    return network, test.class_names


def adapted(args: argparse.Namespace, method: str, num_images: int, seed: int) -> Path:
    """Root of the images drawn with adapters that were learned in one way."""
    name = f"{method}-{num_images}-{seed}"
    adapters = args.work / "adapters" / name
    job(
        "adapt",
        f"jobs/specs/adapt_fashion_mnist_{method}.yaml",
        f"model={args.model}",
        f"concepts.source.path={args.folder / 'train.parquet'}",
        f"concepts.num_images={num_images}",
        f"concepts.seed={seed}",
        f"seed={seed}",
        "--root",
        str(adapters),
    )
    settings = (f"generator.model={args.model}", f"generator.adapters={adapters}")
    return draw(args.work / name, seed, *settings)


def draw(root: Path, seed: int, *settings: str) -> Path:
    """Images of both classes."""
    job(
        "generate",
        "jobs/specs/generate_fashion_mnist_text.yaml",
        *settings,
        f"images_per_class={DRAWN}",
        f"seed={seed}",
        "--root",
        str(root),
    )
    return root


def job(name: str, *arguments: str) -> None:
    """Run a job of this project; what is there already is skipped."""
    command = [sys.executable, f"jobs/{name}.py", *arguments]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def share(classifier: SmallCnn, names: tuple[str, ...], root: Path, wanted: str) -> float:
    """Share of a class's drawn images in which the classifier sees it."""
    source = open_source(SourceSpec(path=str(root), **SHAPE))
    drawn = source.images[source.labels == source.class_names.index(wanted)]
    _, labels = classifier.look(drawn)
    return float(np.mean(labels == names.index(wanted)))


def in_words(shares: list[float]) -> str:
    """E.g. "83.2 % (79.0 to 87.4)"."""
    interval = seed_interval(shares, 0.95)
    assert interval.low is not None
    assert interval.high is not None
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return f"{100 * interval.mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    main()
