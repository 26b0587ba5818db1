"""What the classifier's training loop costs: images/s of it over those of a plain PyTorch loop.

`python benchmarks/classifier.py [--width N] [--threads N] [--pairs N] [--steps N]` trains the same
ResNet-18 on the same embedded images in turn with `classify.train.Trainer` and with a hand-written
loop over one tensor, in one process, and prints one JSON line a pair and one with the medians.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from factory.classify.arms import Part
from factory.classify.train import Task, Trainer
from factory.images import tensor_to_float
from factory.sources.open import open_source
from factory.sources.source import Source
from factory.spec import Classifier, ClassifierTraining, SourceSpec
from factory.vision.classifier import build_classifier

CPU = torch.device("cpu")
BATCH = 128


def main() -> None:
    """Measure pairs of runs, each first in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = open_source(SourceSpec())
    classifier = Classifier(width=args.width)
    ratios = []
    for pair in range(args.pairs + 1):
        plain = plain_rate(source, classifier, args.steps)
        ours = trainer_rate(source, classifier, args.steps)
        row = {"plain_images_per_second": plain, "trainer_images_per_second": ours}
        if pair:  # the first pair warms up
            ratios.append(ours / plain)
            print(json.dumps({"pair": pair, **row, "ratio": ours / plain}), flush=True)
    print(json.dumps({"median_ratio": statistics.median(ratios), "pairs": len(ratios)}))


def trainer_rate(source: Source, classifier: Classifier, num_steps: int) -> float:
    """Images/s of `Trainer`, its own count of time left aside."""
    training = ClassifierTraining(num_steps=num_steps, batch_size=BATCH, schedule="constant")
    part = Part(source.images, source.labels)
    names = source.class_names
    task = Task(classifier, training, "none", names, [part], (BATCH,), None, num_steps, seed=0)
    trainer = Trainer(task, CPU)
    started = time.perf_counter()
    while not trainer.done:
        trainer.train_epoch()
    return num_steps * BATCH / (time.perf_counter() - started)


def plain_rate(source: Source, classifier: Classifier, num_steps: int) -> float:
    """Images/s of what a user would write: shuffle, slice, forward, backward, step."""
    network = build_classifier(
        classifier, channels=source.images.shape[3], class_names=source.class_names, seed=0
    ).train()
    training = ClassifierTraining(num_steps=num_steps)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        fused=True,
    )
    images, labels = torch.from_numpy(source.images), torch.from_numpy(source.labels)
    started = time.perf_counter()
    order = torch.randperm(len(labels))
    for step in range(num_steps):
        at = step * BATCH % (len(labels) - BATCH)
        index = order[at : at + BATCH]
        x = tensor_to_float(images[index])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        loss = F.cross_entropy(logits.float(), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return num_steps * BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
