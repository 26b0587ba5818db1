"""What a double of the Hub keeps: accounts, and repositories with their history."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LFS_SUFFIXES = (".parquet", ".tar", ".png", ".safetensors")


class Account(NamedTuple):
    name: str
    role: str
    """Of the token: write or read."""
    orgs: tuple[str, ...] = ()

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.name, *self.orgs)


@dataclass(frozen=True)
class Blob:
    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    oid: str
    files: Mapping[str, Blob]
    title: str


@dataclass
class PullRequest:
    num: int
    author: str
    title: str
    head: str
    status: str = "draft"


@dataclass
class Repo:
    private: bool
    history: list[Commit] = field(default_factory=list)
    """Of all branches, oldest first."""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)

    def find(self, revision: str) -> Commit | None:
        pulls = {f"refs/pr/{pull.num}": pull.head for pull in self.pulls}
        oid = {**pulls, **self.tags, **self.branches}.get(revision, revision)
        return next((commit for commit in self.history if commit.oid == oid), None)

    def pull(self, revision: str) -> PullRequest | None:
        return next((pull for pull in self.pulls if f"refs/pr/{pull.num}" == revision), None)

    def move(self, revision: str, oid: str) -> None:
        pull = self.pull(revision)
        if pull is not None:
            pull.head = oid
        else:
            self.branches[revision] = oid


def tree_entries(commit: Commit) -> list[dict]:
    """Files and folders, as the tree's listing has them."""
    folders = {path[: slash.start()] for path in commit.files for slash in re.finditer("/", path)}
    entries = [
        {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in folders
    ]
    for path, blob in commit.files.items():
        entry = {"type": "file", "oid": blob.git_oid, "size": len(blob.data), "path": path}
        if blob.is_lfs:
            entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry["path"])
