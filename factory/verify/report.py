"""Sum up what checks and replays of single shards have shown."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from factory.cli import DONE, FAILED, MISMATCH
from factory.records import dataset_digest
from factory.sources.check import NAMED, Duplicate, Finding, ShardCheck, find_duplicates
from factory.spec import Frozen
from factory.verify.prepare import Prepared
from factory.verify.replay import ShardReplay

_LOG = logging.getLogger(__name__)


class VerifyReport(Frozen):
    """What a root was found to hold."""

    root: str
    fingerprint: str
    digest: str
    """sha256 over the digests that the records name, in order of the shards."""
    num_shards: int
    """Shards with a usable record."""
    num_images: int
    """Samples counted."""
    class_counts: dict[str, int]
    num_findings: int
    findings: list[Finding]
    """The first 100."""
    num_duplicates: int
    """Images whose pixels an earlier one has."""
    duplicates: list[Duplicate]
    """The first 100 groups."""
    replayed: int
    """Images drawn again and compared."""
    replay_mismatches: int
    """Those of them that are stored with other pixels; they are findings too."""
    not_comparable: dict[str, int]
    """How this device or its versions differ from a record's -> images not compared."""
    num_missing: int
    missing: list[int]
    """Shards without a usable record, and those that are too short (at most 100 are named)."""
    num_strays: int
    """Files that no counting record names; generate sweeps them."""
    mend: str | None
    """What to do if something is wrong or missing."""
    seconds: float
    ok: bool
    """Nothing is wrong and nothing is missing."""

    @property
    def exit_code(self) -> int:
        """3 if anything is wrong, else 1 if anything is missing, else 0."""
        if self.num_findings or self.num_duplicates:
            return MISMATCH
        return FAILED if self.num_missing else DONE


class Tally:
    """What was found so far; it grows by 8 bytes an image."""

    def __init__(self, prepared: Prepared) -> None:
        """Start with the records that cannot be used."""
        self._prepared = prepared
        self._class_counts = Counter(dict.fromkeys(prepared.dataset.plan.class_names, 0))
        self._findings: list[Finding] = []
        self._num_findings = 0
        self._contradicted: set[int] = set()
        self._damaged: set[int] = set()
        self._pixels: dict[int, NDArray[np.uint64]] = {}
        self._replayed = self._mismatches = 0
        self._not_comparable: Counter[str] = Counter()
        broken = [
            Finding(shard=_shard_of(name), file=name, key=None, what=what)
            for name, what in prepared.inventory.broken.items()
        ]
        self._add(broken, len(broken))

    def add_check(self, check: ShardCheck) -> None:
        """Count what the light check of one shard has found."""
        self._add(check.findings, check.num_findings)
        self._class_counts.update(check.class_counts)
        self._pixels[check.shard] = check.pixels
        if check.is_damaged:
            self._damaged.add(check.shard)
        elif check.findings:
            self._contradicted.add(check.shard)

    def add_replay(self, replay: ShardReplay) -> None:
        """Count what the replay of one shard has found."""
        self._add(replay.findings, replay.num_mismatches)
        self._contradicted |= {finding.shard for finding in replay.findings}
        self._replayed += replay.num_compared
        self._mismatches += replay.num_mismatches
        if replay.num_not_comparable:
            self._not_comparable[replay.reason] += replay.num_not_comparable

    def report(self, *, seconds: float) -> VerifyReport:
        """Look for duplicates among all shards, and sum up."""
        prepared = self._prepared
        dataset, records = prepared.dataset, prepared.records
        num_duplicates, duplicates = find_duplicates(dataset, records, self._pixels)
        for duplicate in duplicates:
            _LOG.error("%s: have the same pixels", " and ".join(duplicate.keys))
        num_missing = sum(1 for _ in prepared.missing())
        wrong = bool(self._num_findings or num_duplicates)
        mend = self._mend() if self._num_findings or num_missing else None
        if mend is not None:
            _LOG.error("%d findings, %d missing shards: %s", self._num_findings, num_missing, mend)
        return VerifyReport(
            root=dataset.store.url,
            fingerprint=dataset.root_spec.fingerprint,
            digest=dataset_digest(records),
            num_shards=len(records),
            num_images=self._class_counts.total(),
            class_counts=dict(self._class_counts),
            num_findings=self._num_findings,
            findings=self._findings,
            num_duplicates=num_duplicates,
            duplicates=duplicates,
            replayed=self._replayed,
            replay_mismatches=self._mismatches,
            not_comparable=dict(self._not_comparable),
            num_missing=num_missing,
            missing=list(islice(prepared.missing(), NAMED)),
            num_strays=len(prepared.inventory.strays),
            mend=mend,
            seconds=round(seconds, 1),
            ok=not wrong and not num_missing,
        )

    def _add(self, findings: Sequence[Finding], num_findings: int) -> None:
        self._num_findings += num_findings
        for finding in findings[: NAMED - len(self._findings)]:
            self._findings.append(finding)
            where = f"{finding.file} {finding.key}" if finding.key else finding.file
            _LOG.error("%s: %s", where, finding.what)

    def _mend(self) -> str:
        prepared = self._prepared
        again = (
            "run jobs/generate.py with the dataset's spec, "
            f"--root {prepared.dataset.store.url} and recheck=true"
        )
        # Their files are what their records say, so generate takes them for whole.
        kept = sorted(self._contradicted - self._damaged)
        if not kept:
            return again
        names = [prepared.records[shard].name for shard in kept[:NAMED]]
        return f"delete {', '.join(names)}, then {again}"


def _shard_of(record: str) -> int:
    """Number of the shard in the name of a record."""
    return int(PurePosixPath(record).name.partition("-")[0])
