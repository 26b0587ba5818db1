"""What stands against publishing a root, each thing with its reason and what overrides it."""

from collections.abc import Iterator, Mapping
from typing import get_args

from factory.plan import Plan
from factory.publish.checked import Checked
from factory.publish.facts import Facts
from factory.publish.measured import Memorisation
from factory.spec import Gate, PublishSpec, SpecError

_NAMED = 3


def find_refusals(spec: PublishSpec, plan: Plan, checked: Checked, facts: Facts) -> dict[str, str]:
    """Gate -> why it refuses, and what to do; in the order of the gates.

    Those of `Gate` can be accepted; that a licence is missing cannot.

    Args:
        spec: what is asked, accepted gates too.
        plan: what the root promises.
        checked: what it holds.
        facts: of the shards that would be published.
    """
    return {
        **dict(_root_refusals(plan, checked, facts)),
        **dict(_memorisation_refusals(spec, facts)),
        **dict(_licence_refusals(spec, facts)),
    }


def refuse(subject: str, refused: Mapping[str, str]) -> None:
    """Raise if anything is refused.

    Raises:
        SpecError: naming all of it, and the fields that override it.
    """
    if not refused:
        return
    lines = "".join(f"\n  {gate}: {reason}" for gate, reason in refused.items())
    can_accept = [gate for gate in refused if gate in get_args(Gate)]
    accept = f"\npublish in spite of them with accept=[{', '.join(can_accept)}]"
    without_licence = any(gate.endswith("licence") for gate in refused)
    raise SpecError(
        f"{subject}: is not published, nothing was sent: {lines}"
        + (accept if can_accept else "")
        + ("; a licence must be given" if can_accept and without_licence else "")
    )


def _root_refusals(plan: Plan, checked: Checked, facts: Facts) -> Iterator[tuple[str, str]]:
    wrong = [
        *(f"{name} {why}" for name, why in checked.broken.items()),
        *(f"{found.file} {found.key or ''}: {found.what}" for found in checked.findings),
    ]
    num_wrong = len(checked.broken) + checked.num_findings
    if num_wrong or checked.num_duplicates:
        first = f" ({'; '.join(wrong[:_NAMED])})" if num_wrong else ""
        yield (
            "verification",
            f"{num_wrong} things are not as promised{first}, and {checked.num_duplicates} images "
            "have the pixels of an earlier one; jobs/verify.py says what mends it",
        )
    short = _short(plan, facts)
    if short:
        # Without it shards of the right size are kept unread.
        recheck = ", this root and recheck=true" if checked.damaged else " and this root"
        yield (
            "counts",
            f"images are missing, {short}; run jobs/generate.py with the dataset's spec{recheck}",
        )
    if checked.num_wrong_marks:
        yield (
            "marks",
            f"{checked.num_wrong_marks} images do not say in their metadata how they came about, "
            "or say it wrongly; make them again with jobs/generate.py",
        )


def _short(plan: Plan, facts: Facts) -> str:
    """What is missing of the images asked for, in words; empty: nothing."""
    if plan.counts is None:
        lacking = plan.num_images - facts.num_images
        return f"{lacking:,} of {plan.num_images:,}" if lacking > 0 else ""
    asked = dict(zip(plan.class_names, plan.counts, strict=True))
    return ", ".join(
        f"{count - facts.class_counts[name]:,} of {count:,} of {name}"
        for name, count in asked.items()
        if facts.class_counts[name] < count
    )


def _memorisation_refusals(spec: PublishSpec, facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.evaluation is None:
        yield (
            "memorisation_missing",
            "whether images are copies of what the generator has seen was not measured: "
            f"evaluate is {spec.evaluate}, where no report is about the images that the root holds "
            "now; run jobs/evaluate.py on them, and give its results as evaluate=FOLDER",
        )
        return
    found = facts.evaluation.found.memorisation
    if found is None:
        yield (
            "memorisation_missing",
            "these images were measured without looking for copies; run jobs/evaluate.py with "
            "its section memorisation",
        )
        return
    num_searched = facts.evaluation.found.source.num_images
    if found.verdict == "not checked":
        yield "memorisation_not_valid", f"copies could not be looked for: {found.reason}"
    elif num_searched < facts.num_images:
        yield (
            "memorisation_not_valid",
            f"copies were looked for among {num_searched:,} of the {facts.num_images:,} images; "
            "run jobs/evaluate.py on all of them",
        )
    if found.verdict == "copies" or found.num_exact:
        yield "copies", _copies(found)


def _copies(found: Memorisation) -> str:
    exact = f"{found.num_exact:,} images have the very pixels of one that the generator has seen"
    if found.share is None or found.limit is None:
        return exact
    return (
        f"{found.share.value:.2%} of the images lie suspiciously near to one that the generator "
        f"has seen, and at most {found.limit:.2%} would do so by chance; {exact}"
    )


def _licence_refusals(spec: PublishSpec, facts: Facts) -> Iterator[tuple[str, str]]:
    if spec.licence is None:
        yield "licence", "of the images is not given; give licence=IDENTIFIER, e.g. cc-by-4.0"
    if spec.model_licence is None and facts.model.licence is None:
        yield (
            "model_licence",
            f"the card of the generator {facts.model.name} names no licence, or cannot be had; "
            "give model_licence=IDENTIFIER",
        )
    seen = [part.name for part in facts.seen or () if part.digest is not None]
    if seen and spec.source_licence is None:
        yield (
            "source_licence",
            f"of the images that the generator has seen ({', '.join(seen)}) is not given; give "
            "source_licence=IDENTIFIER",
        )
