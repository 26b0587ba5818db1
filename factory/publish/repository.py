"""One dataset repository on the Hub: who may write to it, and what it holds now."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import Discussion, GitRefs, HfApi, get_token
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from factory.hub import Patience
from factory.publish.retry import ask_hub
from factory.spec import JobError, SpecError

_LOG = logging.getLogger(__name__)
_LOGIN = (
    "log in with `hf auth login`, or set HF_TOKEN to a token with write permission "
    "(https://huggingface.co/settings/tokens)"
)
_PULL_REQUEST = "refs/pr/"

ResultT = TypeVar("ResultT")


class Seen(NamedTuple):
    """A branch as it was looked at."""

    commit: str
    files: dict[str, RepoFile]
    """Path -> size, digest of git, and sha256 of files in LFS."""


@dataclass(frozen=True)
class Repository:
    """A dataset repository; every question is asked again after faults that may pass."""

    api: HfApi
    repo_id: str
    patience: Patience

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"{self.api.endpoint}/datasets/{self.repo_id}"

    def ask(self, doing: str, call: Callable[[], ResultT]) -> ResultT:
        """What `call` returns, see `ask_hub`."""
        return ask_hub(call, f"{self.repo_id}: {doing}", self.patience)

    def open(self, *, private: bool) -> str:
        """Create the repository unless it is there, and return the name of the token's account.

        Raises:
            SpecError: if there is no token that may write there, or the repository is public and
                was asked for as private.
        """
        self._check_name()
        account = self._check_account()

        def find_or_create() -> bool:
            try:
                return bool(self.api.dataset_info(self.repo_id).private)
            except RepositoryNotFoundError:
                self.api.create_repo(
                    self.repo_id, repo_type="dataset", private=private, exist_ok=True
                )
                return bool(self.api.dataset_info(self.repo_id).private)

        is_private = self.ask(f"opening it as {account}", find_or_create)
        if private and not is_private:
            raise SpecError(
                f"{self.repo_id}: is public, and private was asked for; give private: false, or "
                f"make it private at {self.url}/settings"
            )
        if is_private and not private:
            _LOG.warning(
                "%s: is private and stays it; make it public at %s/settings", self.repo_id, self.url
            )
        return account

    def open_branch(self, revision: str) -> None:
        """Create branch `revision` from main unless it is there.

        Raises:
            SpecError: if it names a pull request that is not there.
        """
        if _head(self._ask_refs(), revision) is not None:
            return
        if revision.startswith(_PULL_REQUEST):
            raise SpecError(
                f"{self.repo_id}: has no pull request {revision}; leave the revision out and ask "
                "for a new one"
            )
        self.ask(
            f"creating branch {revision}",
            lambda: self.api.create_branch(
                self.repo_id, branch=revision, repo_type="dataset", exist_ok=True
            ),
        )

    def find(self, revision: str) -> Seen | None:
        """What a branch holds now, or where it is not there yet, main; None: no such repository."""
        self._check_name()

        def find() -> str | None:
            try:
                refs = self._refs()
            except RepositoryNotFoundError:
                return None
            return _head(refs, revision) or _head(refs, "main")

        commit = self.ask("looking at it", find)
        return None if commit is None else Seen(commit, self.files_of(commit))

    def read(self, path: str, commit: str) -> bytes:
        """Content of a file at a commit."""

        def download(folder: str) -> bytes:
            try:
                local = self.api.hf_hub_download(
                    self.repo_id, path, repo_type="dataset", revision=commit, cache_dir=folder
                )
            except LocalEntryNotFoundError as error:
                # So the client says that it could not ask; why is the cause.
                raise error.__cause__ or error from None
            return Path(local).read_bytes()

        # A folder of its own: the client's cache may hold a copy that is not what the Hub holds.
        with tempfile.TemporaryDirectory(prefix="factory-publish-") as folder:
            return self.ask(f"reading {path}", partial(download, folder))

    def look(self, revision: str) -> Seen:
        """What a branch holds now.

        Raises:
            JobError: if it is there no more.
        """
        commit = _head(self._ask_refs(), revision)
        if commit is None:
            raise JobError(f"{self.repo_id}: {revision} was deleted meanwhile; run again")
        return Seen(commit, self.files_of(commit))

    def files_of(self, revision: str) -> dict[str, RepoFile]:
        """The files of a commit or tag, by path."""
        listed = self.ask(
            "listing its files",
            lambda: list(
                self.api.list_repo_tree(
                    self.repo_id, repo_type="dataset", revision=revision, recursive=True
                )
            ),
        )
        return {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}

    def has_tag(self, tag: str) -> bool:
        """Whether there is a tag of that name."""
        return any(ref.name == tag for ref in self._ask_refs().tags)

    def create_tag(self, tag: str, commit: str) -> None:
        """Tag a commit; a tag of that name that is there by now stays as it is."""
        self.ask(
            f"creating tag {tag}",
            lambda: self.api.create_tag(
                self.repo_id, tag=tag, revision=commit, repo_type="dataset", exist_ok=True
            ),
        )

    def open_pull_request(self, title: str, account: str) -> Discussion:
        """The account's open pull request of that title; a new draft if there is none."""

        def find_or_create() -> Discussion:
            return self._find_pull_request(title, account) or self.api.create_pull_request(
                self.repo_id, title=title, repo_type="dataset"
            )

        return self.ask("opening a pull request", find_or_create)

    def show_pull_request(self, title: str, account: str) -> None:
        """Make a draft an open pull request."""

        def show() -> None:
            found = self._find_pull_request(title, account)
            if found is not None and found.status == "draft":
                self.api.change_discussion_status(
                    self.repo_id, found.num, "open", repo_type="dataset"
                )

        self.ask("showing the pull request", show)

    def _find_pull_request(self, title: str, account: str) -> Discussion | None:
        listed = self.api.get_repo_discussions(
            self.repo_id, repo_type="dataset", author=account, discussion_type="pull_request"
        )
        wanted = (title.strip(), account)  # the client strips the title that it sends
        mine = (found for found in listed if (found.title, found.author) == wanted)
        return next((found for found in mine if found.status in ("draft", "open")), None)

    def _check_name(self) -> None:
        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise SpecError(f"repo_id {self.repo_id!r}: {error}") from None
        if "/" not in self.repo_id:
            raise SpecError(
                f"repo_id {self.repo_id!r}: names no namespace; give <your account>/{self.repo_id}"
            )

    def _check_account(self) -> str:
        """Name of the account whose token it is."""
        token = self.api.token if isinstance(self.api.token, str) else get_token()
        if not token:
            raise SpecError(f"{self.repo_id}: no token of the Hub was found; {_LOGIN}")
        # A header with other characters is refused by the client in words that hold the token.
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise SpecError(
                f"{self.repo_id}: the token found holds characters that no token has; {_LOGIN}"
            )
        me = self.ask("asking whose token it is", lambda: self.api.whoami(token))
        if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise SpecError(f"{self.repo_id}: the token of {me['name']} may only read; {_LOGIN}")
        return me["name"]

    def _ask_refs(self) -> GitRefs:
        return self.ask("listing its branches", self._refs)

    def _refs(self) -> GitRefs:
        return self.api.list_repo_refs(
            self.repo_id, repo_type="dataset", include_pull_requests=True
        )


def _head(refs: GitRefs, revision: str) -> str | None:
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    pulls = {ref.ref: ref.target_commit for ref in refs.pull_requests or []}
    return {**pulls, **branches}.get(revision)
