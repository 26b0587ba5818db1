"""What speaks against a dataset, as far as it was measured, in sentences."""

from collections.abc import Iterator, Sequence

from factory.pages.page import percent_in_words
from factory.publish.facts import Facts
from factory.publish.measured import Classification, ClassifierResult, Evaluation, Measured
from factory.publish.words import labels_in_words

REACHED = 0.9
"""Share of the held-out images' precision or recall below which it is called low."""
MOST_NAMED = 5
"""Classes that a sentence names."""
_OVERRIDDEN = {
    "verification": "the dataset is not in all what its records promise",
    "counts": "classes have fewer images than they were to have",
    "memorisation_missing": "nobody has looked for copies of training images",
    "memorisation_not_valid": "the search for copies of training images does not hold for these",
    "copies": "copies of training images were found",
    "marks": "some images lack the mark that says how they came about, or have a wrong one",
}
"""Gate -> what its being overridden means to a reader."""
_TOLD_BY = {"pixel": "their pixels", "dct": "their frequencies"}


def limits(facts: Facts) -> list[str]:
    """What speaks against the images, as far as it was measured."""
    found = [f"{labels_in_words(facts)}.", *_overridden(facts)]
    if facts.evaluation is None:
        found.append(
            "How alike the images are to real ones was not measured, nor whether there are copies "
            "of training images among them."
        )
    else:
        found += _measured_limits(facts.evaluation)
    if facts.classification is None:
        found.append("Whether they help to train a classifier was not measured.")
    else:
        found += _training_limits(facts.classification)
    return found


def _overridden(facts: Facts) -> Iterator[str]:
    if facts.missing_shards:
        numbers = ", ".join(map(str, facts.missing_shards[:MOST_NAMED]))
        more = " and more" if len(facts.missing_shards) > MOST_NAMED else ""
        yield (
            f"Part of the dataset is missing: it was to have {facts.num_promised:,} images, and "
            f"{facts.num_images:,} are here. Missing, or damaged and so left out: shard "
            f"{numbers}{more}."
        )
    for gate in facts.accepted:
        yield f"The publisher has overridden the check \u201c{gate}\u201d: {_OVERRIDDEN[gate]}."


def _training_limits(found: Classification) -> Iterator[str]:
    for verdict in found.verdicts:
        if verdict.overall.outcome == "hurts":
            lost = f"{-100 * verdict.overall.difference.mean:.1f} points"
            yield (
                f"A classifier trained on \u201c{found.arms[verdict.arm].mix}\u201d is {lost} less "
                f"accurate than one trained on \u201c{found.arms[verdict.baseline].mix}\u201d."
            )
    yield from _sentences(found.warnings)


def _measured_limits(evaluation: Evaluation) -> Iterator[str]:
    found, held_out = evaluation.found, evaluation.held_out
    yield from _low_shares(found, held_out)
    if found.classifier is not None:
        wrong = percent_in_words(1 - found.classifier.agreement.value)
        worst = worst_classes(found.classifier)
        named = ", ".join(f"{name} {percent_in_words(value)}" for name, value in worst.items())
        yield (
            f"A classifier of real images does not see {wrong} of the images as what they are "
            f"labelled{f'; of these classes it sees fewest: {named}' if named else ''}."
        )
    for domain, detection in found.detection.items():
        low = detection.accuracy.low
        if low is not None and low > 0.5:
            yield (
                f"A linear classifier tells them from real images by {_TOLD_BY[domain]}, rightly "
                f"for {percent_in_words(detection.accuracy.value)}."
            )
    yield from _sentences(evaluation.warnings)


def _sentences(warnings: Sequence[str]) -> Iterator[str]:
    for warning in warnings:
        yield f"{warning[:1].upper()}{warning[1:].rstrip('.')}."


def _low_shares(found: Measured, held_out: Measured | None) -> Iterator[str]:
    if held_out is None:
        return
    own, other = found.likeness, held_out.likeness
    if _is_low(own.recall, other.recall):
        yield (
            f"Part of the variety of real images is missing: recall {_percent(own.recall)}, where "
            f"real images that were held out reach {_percent(other.recall)}."
        )
    if _is_low(own.precision, other.precision):
        yield (
            f"Some images look like no real one: precision {_percent(own.precision)}, where real "
            f"images that were held out reach {_percent(other.precision)}."
        )


def _is_low(share: float | None, reference: float | None) -> bool:
    return share is not None and reference is not None and share < REACHED * reference


def _percent(share: float | None) -> str:
    return "\u2013" if share is None else percent_in_words(share)


def worst_classes(found: ClassifierResult) -> dict[str, float]:
    """Classes that are seen as labelled less often than all are -> share, the worst first."""
    shares = {name: share.value for name, share in found.per_class_agreement.items()}
    worst = sorted((share, name) for name, share in shares.items() if share < found.agreement.value)
    return {name: share for share, name in worst[:MOST_NAMED]}
