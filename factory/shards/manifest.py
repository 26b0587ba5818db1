"""What a published dataset holds, file by file, and the one number that stands for all of it."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from factory.spec import Frozen

MANIFEST_NAME = "manifest.json"


class PublishedFile(Frozen):
    """A file of samples in a repository."""

    path: str
    """In the repository, e.g. data/synthetic/train-00012-3fa9c1d2.parquet."""
    sha256: str
    num_bytes: int
    num_samples: int


class PublishedConfig(Frozen):
    """A part of a repository that is loaded by its name."""

    name: str
    kind: Literal["root", "real", "mix"]
    """A dataset that the factory made; real images; both mixed."""
    split: Literal["train"] = "train"
    files: tuple[PublishedFile, ...]
    """In the order of their paths."""
    num_images: int
    class_names: tuple[str, ...]
    """In label order."""
    class_counts: dict[str, int]
    """Images of each class, in label order."""
    num_synthetic: int
    """Images with `is_synthetic`; of a reconstruction its real images have not."""
    num_real: int
    features: dict[str, Any]
    """Columns in the words of `datasets`, as it reads them from the files."""
    format: Literal["parquet", "webdataset"]
    data_glob: str
    """All files of the config, e.g. data/synthetic/*.parquet."""

    @property
    def num_bytes(self) -> int:
        """Size of the files."""
        return sum(file.num_bytes for file in self.files)


class Manifest(Frozen):
    """Content of a published dataset's manifest.json."""

    schema_version: Literal[1] = 1
    name: str
    """The dataset's."""
    fingerprint: str
    """Of the root's resolved spec."""
    configs: tuple[PublishedConfig, ...]
    """The root's first."""
    merkle_root: str
    """See `merkle_root`; of the files of all configs."""
    versions: dict[str, str]
    """Package -> version that the shards were made with, several joined by commas."""

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """The files of all configs, in the order of their paths."""
        files = (file for config in self.configs for file in config.files)
        return tuple(sorted(files, key=lambda file: file.path))

    @property
    def folders(self) -> tuple[str, ...]:
        """Of the configs, where nothing but their files lies; each ends in "/"."""
        return tuple(f"data/{config.name}/" for config in self.configs)

    @property
    def num_images(self) -> int:
        """Images of all configs."""
        return sum(config.num_images for config in self.configs)


def merkle_root(files: Sequence[PublishedFile]) -> str:
    """`tree_root` of the files in the order of their paths.

    A leaf is what `sha256sum` says of a file at the repository's top: its digest, two spaces, its
    path and a line feed, in UTF-8. So neither content nor name of a file can change.
    """
    ordered = sorted(files, key=lambda file: file.path)
    return tree_root([f"{file.sha256}  {file.path}\n".encode() for file in ordered])


def tree_root(leaves: Sequence[bytes]) -> str:
    """Merkle tree hash of a list of leaves, RFC 6962, section 2.1, with SHA-256; hex."""
    return _tree_hash([hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]).hex()


def _tree_hash(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    # The largest power of two that is smaller than the number of leaves.
    left = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _tree_hash(hashes[:left]) + _tree_hash(hashes[left:])).digest()
