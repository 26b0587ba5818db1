"""The one committer: a set of files goes to a dataset repository in one commit, or not at all."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from huggingface_hub import CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from factory.hub import Patience
from factory.publish.repository import Repository
from factory.publish.retry import upload_errors
from factory.publish.upload import PushFile, Uploads
from factory.spec import Frozen, JobError, SpecError
from factory.spec.publish import check_pull_request


class Pushed(Frozen):
    """What a push came to."""

    repo_id: str
    url: str
    revision: str
    """Branch, or refs/pr/3."""
    commit: str
    """A commit that holds the files."""
    num_uploaded: int
    """Files that were new or had changed."""
    num_bytes: int
    """Size of those; content that the Hub held already was not sent."""
    num_unchanged: int
    num_deleted: int
    tag: str | None
    pull_request: str | None
    """Its address; None where no new one was asked for or main holds the files."""


def push(
    files: Mapping[str, PushFile],
    *,
    repo_id: str,
    message: str,
    replace: Sequence[str] = (),
    private: bool = True,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    api: HfApi | None = None,
    patience: Patience | None = None,
) -> Pushed:
    """Make a branch of a dataset repository hold `files`: one commit, or none if it does.

    Whatever stops it, the branch holds all of the files or is as it was, and the same call goes
    on: what is stored is not sent again. In memory are 64 MiB of files at a time, or one that is
    larger.

    Args:
        files: path in the repository -> file.
        repo_id: account or organisation, "/", name; created if it is not there.
        message: title of the commit, and of the pull request.
        replace: folders; what lies there and is not in `files` is deleted in the same commit. No
            other file of the repository is touched.
        private: visibility of a repository that is created. One that is there keeps its own, and
            is refused if it is public where private is asked for.
        revision: branch, created from main if it is not there, or open pull request (refs/pr/3);
            None: main.
        create_pr: push to a pull request onto main: the account's open one of this title, or a new
            one. None is opened if main holds the files.
        tag: name of the commit. A tag never moves: one that is there must hold the files.
        api: client; None: the library's own, which finds endpoint and token.
        patience: how often and when to try again; None: the default.

    Raises:
        SpecError: before anything is sent, if no token is there or it may not write, or what is
            asked contradicts itself or the repository.
        JobError: if it cannot be finished.
    """
    check_pull_request(revision, tag, create_pr=create_pr)
    wanted = _Wanted(files, tuple(f"{folder.rstrip('/')}/" for folder in replace))
    repository = Repository(api or HfApi(), repo_id, patience or Patience())
    account = repository.open(private=private)
    branch, pull_request = revision or "main", None
    repository.open_branch(branch)
    if tag is not None:
        _check_tag(repository, wanted, tag, SpecError)
    if create_pr and wanted.change(repository.look(branch).files):
        opened = repository.open_pull_request(message, account)
        branch, pull_request = f"refs/pr/{opened.num}", opened.url
    publication = _Publication(repository, wanted, branch, message)
    commit = repository.ask(f"pushing to {branch} as {account}", publication.attempt)
    if pull_request is not None:
        repository.show_pull_request(message, account)
    if tag is not None:
        repository.create_tag(tag, commit)
        _check_tag(repository, wanted, tag, JobError)
    return publication.pushed(commit, tag=tag, pull_request=pull_request)


class _Change(NamedTuple):
    add: tuple[str, ...]
    delete: tuple[str, ...]


class _Wanted(NamedTuple):
    files: Mapping[str, PushFile]
    folders: tuple[str, ...]
    """Where nothing else may lie; each ends in "/"."""

    def change(self, there: Mapping[str, RepoFile]) -> _Change | None:
        """What makes a repository that holds `there` hold the files; None: it does."""
        files = self.files.items()
        add = tuple(path for path, file in files if not _is_same(file, there.get(path)))
        others = (path for path in there if path not in self.files)
        delete = tuple(path for path in others if path.startswith(self.folders))
        return _Change(add, delete) if add or delete else None


def _is_same(file: PushFile, there: RepoFile | None) -> bool:
    if there is None or there.size != file.num_bytes:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == file.sha256
    return there.blob_id == git_hash(file.read())


class _Publication:
    """What a push knows from one attempt to the next."""

    def __init__(self, repository: Repository, wanted: _Wanted, branch: str, message: str) -> None:
        self._repository = repository
        self._wanted = wanted
        self._branch = branch
        self._message = message
        self._uploads = Uploads(repository, wanted.files, branch)
        self.change: _Change | None = None
        """What the last attempt that found something to do was about."""

    def attempt(self) -> str:
        """Bring the branch to hold the files, and return the commit that does.

        It looks first, and commits only onto what it looked at. So it may be called again whatever
        became of the last call (a reply may be lost), and whatever others commit meanwhile.
        """
        seen = self._repository.look(self._branch)
        change = self._wanted.change(seen.files)
        if change is None:
            return seen.commit
        self.change = change
        self._uploads.store(change.add)
        commit = self._commit(change, parent=seen.commit)
        self._check(commit)
        return commit

    def pushed(self, commit: str, *, tag: str | None, pull_request: str | None) -> Pushed:
        """What all attempts together came to."""
        files = self._wanted.files
        add, delete = self.change or ((), ())
        return Pushed(
            repo_id=self._repository.repo_id,
            url=self._repository.url,
            revision=self._branch,
            commit=commit,
            num_uploaded=len(add),
            num_bytes=sum(files[path].num_bytes for path in add),
            num_unchanged=len(files) - len(add),
            num_deleted=len(delete),
            tag=tag,
            pull_request=pull_request,
        )

    def _commit(self, change: _Change, *, parent: str) -> str:
        repo_id = self._repository.repo_id
        deletions = [CommitOperationDelete(path, is_folder=False) for path in change.delete]
        with upload_errors(f"{repo_id}: committing"):
            made = self._repository.api.create_commit(
                repo_id,
                [*self._uploads.operations(change.add), *deletions],
                commit_message=self._message,
                repo_type="dataset",
                revision=self._branch,
                parent_commit=parent,
            )
        return made.oid

    def _check(self, commit: str) -> None:
        # The client leaves out what the repository's .gitignore names, and says nothing.
        lacking = self._wanted.change(self._repository.files_of(commit))
        if lacking is not None:
            raise JobError(
                f"{self._repository.repo_id}: commit {commit} has not {len(lacking.add)} of the "
                f"files (first: {', '.join(lacking.add[:3])}) and still {len(lacking.delete)} "
                "that were to go; see whether the repository's .gitignore names them, run again"
            )


def _check_tag(
    repository: Repository, wanted: _Wanted, tag: str, error: type[SpecError | JobError]
) -> None:
    """Refuse a tag that is there and does not hold exactly the files."""
    change = wanted.change(repository.files_of(tag)) if repository.has_tag(tag) else None
    if change is not None:
        raise error(
            f"{repository.repo_id}: tag {tag} is there with other content ({len(change.add)} files "
            f"differ, {len(change.delete)} more lie there), and tags do not move; give another tag"
        )
