"""Check a dataset that is published on the Hub against its own manifest."""

import hashlib
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2  # huggingface_hub lets its transport errors through as they are
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from pydantic import ValidationError

from factory.cli import DONE, MISMATCH
from factory.progress import Progress
from factory.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    PublishedConfig,
    PublishedFile,
    merkle_root,
)
from factory.shards.reader import read_shard
from factory.sources.check import NAMED
from factory.spec import Frozen, JobError, SpecError
from factory.spec.verify import VerifyHubSpec

_LOG = logging.getLogger(__name__)
_CARD_NAME = "README.md"
_THREADS = 8


class HubFinding(Frozen):
    """Something that is not as the manifest says."""

    file: str
    what: str


class HubReport(Frozen):
    """What a published dataset was found to hold."""

    repo_id: str
    commit: str
    """What was looked at."""
    fingerprint: str
    merkle_root: str
    """Over the digests that the files have now."""
    num_files: int
    """Files of samples that the manifest names."""
    num_images: int
    num_bytes: int
    is_downloaded: bool
    """Whether the files themselves were hashed and counted, or the Hub's word was taken."""
    num_findings: int
    findings: list[HubFinding]
    """The first 100."""
    seconds: float
    ok: bool

    @property
    def exit_code(self) -> int:
        """3 if anything is wrong, else 0."""
        return DONE if self.ok else MISMATCH


class _Found(NamedTuple):
    """A file of samples as it is on the Hub."""

    sha256: str | None
    """None: it did not arrive whole."""
    class_counts: Counter[str] | None = None
    """Of its images; None: they were not counted."""
    wrong: tuple[str, ...] = ()


def verify_hub(repo_id: str, spec: VerifyHubSpec, api: HfApi | None = None) -> HubReport:
    """Compare names, sizes and digests of all files with the manifest, and both with the card.

    All is read at one commit. Files that are not in LFS, whose digest the Hub does not know, are
    downloaded in any case.

    Args:
        repo_id: `org/name`.
        spec: what to check.
        api: client; None: the library's own, which finds endpoint and token.

    Raises:
        SpecError: if there is no such repository or revision, or it was not published by
            jobs/publish.py.
        JobError: if the Hub cannot be reached.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="factory-verify-") as folder:
        published = _Published(api or HfApi(), repo_id, Path(folder))
        with _hub_errors(repo_id, spec.revision):
            published.open(spec.revision)
            manifest = published.read_manifest()
            found = published.find(manifest, download=spec.download)
            card = published.read(_CARD_NAME) if _CARD_NAME in published.files else b""
    root = _root_of(manifest, found)
    findings = [
        *_compare(manifest, found, published.files),
        *_check_roots(manifest, root, spec.merkle_root, card),
        *(finding for config in manifest.configs for finding in _check_counts(config, found)),
    ]
    for finding in findings[:NAMED]:
        _LOG.error("%s: %s", finding.file, finding.what)
    return HubReport(
        repo_id=repo_id,
        commit=published.commit,
        fingerprint=manifest.fingerprint,
        merkle_root=root,
        num_files=len(manifest.files),
        num_images=manifest.num_images,
        num_bytes=sum(file.num_bytes for file in manifest.files),
        is_downloaded=spec.download,
        num_findings=len(findings),
        findings=findings[:NAMED],
        seconds=round(time.monotonic() - started, 1),
        ok=not findings,
    )


class _Torn(Exception):
    """A file whose content has another size than the Hub says."""


class _Published:
    """A repository at one commit."""

    def __init__(self, api: HfApi, repo_id: str, folder: Path) -> None:
        self._api = api
        self._repo_id = repo_id
        self._folder = folder
        self.commit = ""
        self.files: dict[str, RepoFile] = {}

    def open(self, revision: str | None) -> None:
        commit = self._api.dataset_info(self._repo_id, revision=revision).sha
        assert commit is not None
        self.commit = commit
        listed = self._api.list_repo_tree(
            self._repo_id, repo_type="dataset", revision=commit, recursive=True
        )
        self.files = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}

    def read(self, path: str) -> bytes:
        # A folder of its own: the client's cache may hold a copy that is not what the Hub holds.
        with tempfile.TemporaryDirectory(dir=self._folder) as cache:
            try:
                local = self._api.hf_hub_download(
                    self._repo_id, path, repo_type="dataset", revision=self.commit, cache_dir=cache
                )
            except OSError as error:
                # The client has no type for it.
                if not str(error).startswith("Consistency check failed"):
                    raise
                raise _Torn(str(error).splitlines()[0].partition(": ")[2]) from None
            return Path(local).read_bytes()

    def read_manifest(self) -> Manifest:
        if MANIFEST_NAME not in self.files:
            raise SpecError(
                f"hub:{self._repo_id}: holds no {MANIFEST_NAME}; only what jobs/publish.py has "
                "published can be checked"
            )
        try:
            return Manifest.model_validate_json(self.read(MANIFEST_NAME))
        except ValidationError as error:
            raise SpecError(
                f"hub:{self._repo_id}: {MANIFEST_NAME} is no manifest of jobs/publish.py "
                f"({error.error_count()} errors, first: {error.errors()[0]['msg']})"
            ) from None

    def find(self, manifest: Manifest, *, download: bool) -> dict[str, _Found]:
        """Path -> what is there, of the manifest's files that are."""
        work = [
            (config, file)
            for config in manifest.configs
            for file in config.files
            if file.path in self.files
        ]

        def look(one: tuple[PublishedConfig, PublishedFile]) -> _Found:
            config, file = one
            lfs = self.files[file.path].lfs
            if lfs is not None and not download:
                return _Found(lfs.sha256)
            try:
                return _recount(config, file, self.read(file.path))
            except _Torn as error:
                return _Found(None, wrong=(str(error),))

        with ThreadPoolExecutor(_THREADS) as pool:
            looked = pool.map(look, work)
            if not download:
                return {file.path: found for (_, file), found in zip(work, looked, strict=True)}
            found = {}
            with Progress(num_images=sum(file.num_samples for _, file in work)) as bar:
                for (_, file), one in zip(work, looked, strict=True):
                    found[file.path] = one
                    bar.add(file.num_samples)
            return found


def _root_of(manifest: Manifest, found: Mapping[str, _Found]) -> str:
    """Merkle root over the digests that the manifest's files have now."""
    return merkle_root(
        [
            file.model_copy(update={"sha256": found[file.path].sha256})
            for file in manifest.files
            if file.path in found and found[file.path].sha256 is not None
        ]
    )


def _recount(config: PublishedConfig, file: PublishedFile, data: bytes) -> _Found:
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        samples = read_shard(data, config.format)
    except ValueError as error:
        return _Found(sha256, wrong=(str(error),))
    wrong = []
    if len(samples) != file.num_samples:
        wrong.append(f"holds {len(samples)} images, the manifest says {file.num_samples}")
    names = dict(enumerate(config.class_names))
    strange = [sample.key for sample in samples if names.get(sample.label) != sample.class_name]
    if strange:
        wrong.append(f"{len(strange)} images (first: {strange[0]}) have labels of other classes")
    return _Found(sha256, Counter(sample.class_name for sample in samples), tuple(wrong))


def _compare(
    manifest: Manifest, found: Mapping[str, _Found], there: Mapping[str, RepoFile]
) -> Iterator[HubFinding]:
    for file in manifest.files:
        wrong = list(_compare_file(file, found.get(file.path), there.get(file.path)))
        if wrong:
            yield HubFinding(file=file.path, what="; ".join(wrong))
    named = {file.path for file in manifest.files}
    for path in sorted(there.keys() - named):
        if path.startswith("data/"):
            yield HubFinding(file=path, what="lies there, but the manifest does not name it")


def _compare_file(
    file: PublishedFile, found: _Found | None, there: RepoFile | None
) -> Iterator[str]:
    if found is None or there is None:
        yield "is not there"
        return
    if there.size != file.num_bytes:
        yield f"has {there.size} bytes, the manifest says {file.num_bytes}"
    if found.sha256 is not None and found.sha256 != file.sha256:
        yield f"sha256 is {found.sha256[:12]}..., the manifest says {file.sha256[:12]}..."
    yield from found.wrong


def _check_roots(
    manifest: Manifest, root: str, expected: str | None, card: bytes
) -> Iterator[HubFinding]:
    if root != manifest.merkle_root:
        yield HubFinding(
            file=MANIFEST_NAME,
            what=f"says that the Merkle root is {manifest.merkle_root}, of the files it is {root}",
        )
    if manifest.merkle_root.encode() not in card:
        yield HubFinding(file=_CARD_NAME, what="does not name the manifest's Merkle root")
    if expected not in (None, root):
        yield HubFinding(file=MANIFEST_NAME, what=f"Merkle root is {root}, expected {expected}")


def _check_counts(config: PublishedConfig, found: Mapping[str, _Found]) -> Iterator[HubFinding]:
    totals = {
        "files": sum(file.num_samples for file in config.files),
        "classes": sum(config.class_counts.values()),
        "synthetic and real images": config.num_synthetic + config.num_real,
    }
    wrong = {name: total for name, total in totals.items() if total != config.num_images}
    if wrong:
        yield HubFinding(
            file=MANIFEST_NAME,
            what=f"config {config.name} has {config.num_images} images, but counts {wrong}",
        )
    counted = [found[file.path].class_counts for file in config.files if file.path in found]
    whole = [counts for counts in counted if counts is not None]
    held = dict(sum(whole, Counter()))
    if len(whole) == len(config.files) and held != dict(+Counter(config.class_counts)):
        yield HubFinding(
            file=MANIFEST_NAME,
            what=f"config {config.name} has {config.class_counts}, its files hold {held}",
        )


@contextmanager
def _hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    subject = f"hub:{repo_id}"
    try:
        yield
    except (RepositoryNotFoundError, HFValidationError):
        raise SpecError(
            f"{subject}: there is no such dataset, or your token may not see it; check the name, "
            "or log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise SpecError(
            f"{subject}: has no revision {revision}; give a commit, tag or branch of it"
        ) from None
    except OfflineModeIsEnabled:
        raise SpecError(f"{subject}: HF_HUB_OFFLINE is set; unset it to ask the Hub") from None
    except (HfHubHTTPError, httpx2.TransportError, LocalEntryNotFoundError, _Torn) as error:
        reason = str(error).splitlines()[0]
        raise JobError(f"{subject}: cannot be read ({reason}); run the same again") from None
