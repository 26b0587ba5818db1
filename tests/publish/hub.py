"""A double of the Hugging Face Hub on loopback: repositories of datasets, with faults on demand.

It answers what the client asks for: accounts, repositories, trees, commits with compare-and-swap,
LFS content that comes and goes by way of another origin, tags, branches and pull requests; and it
lets repositories be read as models too. It shows how the client behaves, not how the real Hub does.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from itertools import count
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

from tests.publish.loopback import Refusal, Reply, Service
from tests.publish.repos import LFS_SUFFIXES, Account, Blob, Commit, PullRequest, Repo, tree_entries

TIME = "2026-01-01T00:00:00.000Z"


class Hub(Service):
    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Account] = {}
        """Token -> whose it is."""
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        """sha256 -> content of LFS files."""
        self.page_size = 1000
        self._commits = count()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Path -> content, without the .gitattributes of a new repository."""
        commit = self.repos[repo_id].find(revision)
        assert commit is not None, f"no {revision} in {repo_id}"
        return {path: blob.data for path, blob in commit.files.items() if path != ".gitattributes"}

    def add_repo(self, repo_id: str, *, private: bool = False) -> Repo:
        self.repos[repo_id] = repo = Repo(private)
        self.commit(repo_id, {".gitattributes": b"*.parquet filter=lfs\n"}, title="initial commit")
        return repo

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        title: str = "by someone else",
        revision: str = "main",
    ) -> str:
        """Commit behind every client's back; None deletes a file."""
        blobs = {
            path: None if data is None else Blob(data, path.endswith(LFS_SUFFIXES))
            for path, data in files.items()
        }
        return self._commit(self.repos[repo_id], revision, blobs, title)

    def answer(self, method: str, url: str, token: str | None, body: bytes) -> Reply:
        parts = urlsplit(url)
        path = parts.path
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            account = self._account(token)
            for pattern, name in _ROUTES:
                match = re.fullmatch(pattern, f"{method} {path}")
                if match:
                    asked = Asked(account, query, body, *map(unquote, match.groups()))
                    with self.lock:
                        return getattr(self, name)(asked)
            raise Refusal(404, f"no such address: {path}")
        except Refusal as refusal:
            return refusal.reply

    def _account(self, token: str | None) -> Account | None:
        if token is None:
            return None
        if token not in self.accounts:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.accounts[token]

    def _commit(
        self, repo: Repo, revision: str, blobs: Mapping[str, Blob | None], title: str
    ) -> str:
        with self.lock:
            parent = repo.find(revision)
            files = {**(parent.files if parent else {}), **blobs}
            whole = {path: blob for path, blob in files.items() if blob is not None}
            oid = hashlib.sha1(f"commit {next(self._commits)}".encode()).hexdigest()
            repo.history.append(Commit(oid, whole, title))
            repo.move(revision, oid)
            return oid

    # Accounts and repositories

    def whoami(self, asked: "Asked") -> Reply:
        if asked.account is None:
            raise Refusal(401, "Invalid username or password.")
        return Reply(
            {
                "type": "user",
                "name": asked.account.name,
                "orgs": [{"name": org} for org in asked.account.orgs],
                "auth": {"accessToken": {"displayName": "t", "role": asked.account.role}},
            }
        )

    def validate_yaml(self, asked: "Asked") -> Reply:
        front = re.match(r"---\n(.*?)\n---", asked.json["content"], re.DOTALL)
        try:
            yaml.safe_load(front[1] if front else "")
        except yaml.YAMLError as error:
            message = str(error).splitlines()[0]
            return Reply({"errors": [{"message": message}], "warnings": []}, 400)
        return Reply({"errors": [], "warnings": []})

    def create_repo(self, asked: "Asked") -> Reply:
        if asked.account is None:
            raise Refusal(401, "Invalid username or password.")
        owner = asked.json["organization"] or asked.account.name
        repo_id = f"{owner}/{asked.json['name']}"
        url = f"{self.url}/datasets/{repo_id}"
        if owner not in asked.account.namespaces or asked.account.role != "write":
            raise Refusal(
                403,
                "You don't have the rights to create a dataset under the namespace "
                f'"{owner}". Logged in as {asked.account.name}.',
            )
        if repo_id in self.repos:
            return Reply({"error": "You already created this dataset repo", "url": url}, 409)
        self.add_repo(repo_id, private=asked.json.get("visibility") == "private")
        return Reply({"url": url})

    def delete_repo(self, asked: "Asked") -> Reply:
        self._writable(asked, f"{asked.json['organization']}/{asked.json['name']}")
        del self.repos[f"{asked.json['organization']}/{asked.json['name']}"]
        return Reply({})

    def repo_info(self, asked: "Asked") -> Reply:
        repo_id, revision = asked.groups[0], (*asked.groups, "main")[1]
        repo, commit = self._readable(asked, revision)
        return Reply(
            {
                "id": repo_id,
                "sha": commit.oid,
                "private": repo.private,
                "lastModified": TIME,
                "siblings": [{"rfilename": path} for path in commit.files],
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
        )

    def refs(self, asked: "Asked") -> Reply:
        repo, _ = self._readable(asked, "main")

        def listed(prefix: str, names: Mapping[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"{prefix}{name}", "targetCommit": oid}
                for name, oid in names.items()
            ]

        pulls = {str(pull.num): pull.head for pull in repo.pulls}
        return Reply(
            {
                "branches": listed("refs/heads/", repo.branches),
                "tags": listed("refs/tags/", repo.tags),
                "converts": [],
                "pullRequests": listed("refs/pr/", pulls),
            }
        )

    def create_branch(self, asked: "Asked") -> Reply:
        repo = self._writable(asked, asked.groups[0])
        if asked.groups[1] in repo.branches:
            raise Refusal(409, "Reference already exists")
        start = repo.find(asked.json.get("startingPoint") or "main")
        if start is None:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        repo.branches[asked.groups[1]] = start.oid
        return Reply({})

    def create_tag(self, asked: "Asked") -> Reply:
        repo = self._writable(asked, asked.groups[0])
        _, commit = self._readable(asked, asked.groups[1])
        if asked.json["tag"] in repo.tags:
            raise Refusal(409, "Tag reference exists already")
        repo.tags[asked.json["tag"]] = commit.oid
        return Reply({})

    # Reading

    def tree(self, asked: "Asked") -> Reply:
        repo_id, revision, folder = (*asked.groups, "")[:3]
        _, commit = self._readable(asked, revision)
        prefix = f"{folder}/" if folder else ""
        entries = [
            one
            for one in tree_entries(commit)
            if one["path"].startswith(prefix)
            if asked.query.get("recursive") == "true" or "/" not in one["path"][len(prefix) :]
        ]
        if folder and not entries:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        start = int(asked.query.get("cursor", 0))
        stop = start + self.page_size
        link = (
            f"{self.url}/api/datasets/{repo_id}/tree/{quote(revision, safe='')}/{folder}".rstrip(
                "/"
            )
            + f"?recursive={asked.query.get('recursive', 'false')}&cursor={stop}"
        )
        headers = {"Link": f'<{link}>; rel="next"'} if stop < len(entries) else {}
        return Reply(entries[start:stop], headers=headers)

    def paths_info(self, asked: "Asked") -> Reply:
        _, commit = self._readable(asked, asked.groups[1])
        wanted = {path.strip("/") for path in parse_qs(asked.body.decode()).get("paths", [])}
        return Reply([one for one in tree_entries(commit) if one["path"] in wanted])

    def resolve(self, asked: "Asked") -> Reply:
        _, revision, path = asked.groups
        _, commit = self._readable(asked, revision)
        blob = commit.files.get(path)
        if blob is None:
            refusal = Refusal(404, "Entry not found", "EntryNotFound")
            headers = {**refusal.reply.headers, "X-Repo-Commit": commit.oid}
            return refusal.reply._replace(headers=headers)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"'}
        if not blob.is_lfs:
            return Reply(blob.data, headers=headers)
        linked = {
            "X-Linked-Etag": f'"{blob.sha256}"',
            "X-Linked-Size": str(len(blob.data)),
            "Location": f"{self.storage_url}/objects/{blob.sha256}",
        }
        self.objects.setdefault(blob.sha256, blob.data)
        return Reply(b"", 302, headers | linked)

    # Writing

    def preupload(self, asked: "Asked") -> Reply:
        repo_id, revision = asked.groups
        self._writable(asked, repo_id, revision)
        _, commit = self._readable(asked, revision)
        ignored = commit.files.get(".gitignore", Blob(b"", False)).data.decode().split()
        return Reply(
            {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(LFS_SUFFIXES) else "regular",
                        "shouldIgnore": any(fnmatch(one["path"], line) for line in ignored),
                        "oid": commit.files[one["path"]].etag
                        if one["path"] in commit.files
                        else None,
                    }
                    for one in asked.json["files"]
                ]
            }
        )

    def lfs_batch(self, asked: "Asked") -> Reply:
        revision = asked.json.get("ref", {}).get("name", "main")
        self._writable(asked, asked.groups[0], revision)
        return Reply(
            {
                "transfer": "basic",
                "objects": [
                    one if one["oid"] in self.objects else one | {"actions": self._actions(one)}
                    for one in asked.json["objects"]
                ],
            }
        )

    def _actions(self, one: Mapping[str, str]) -> dict[str, dict[str, str]]:
        return {
            "upload": {"href": f"{self.storage_url}/objects/{one['oid']}"},
            "verify": {"href": f"{self.url}/lfs-verify/{one['oid']}"},
        }

    def lfs_verify(self, asked: "Asked") -> Reply:
        if len(self.objects.get(asked.groups[0], b"")) != asked.json["size"]:
            raise Refusal(400, "the object's size is another")
        return Reply({})

    def make_commit(self, asked: "Asked") -> Reply:
        repo_id, revision = asked.groups
        repo = self._writable(asked, repo_id, revision)
        _, head = self._readable(asked, revision)
        header, *operations = (json.loads(line) for line in asked.body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != head.oid:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        blobs = dict(self._changed(one["key"], one["value"], head) for one in operations)
        oid = self._commit(repo, revision, blobs, header["value"]["summary"])
        url = f"{self.url}/datasets/{repo_id}/commit/{oid}"
        return Reply({"success": True, "commitOid": oid, "commitUrl": url})

    def _changed(self, key: str, value: dict[str, str], head: Commit) -> tuple[str, Blob | None]:
        path = value["path"]
        match key:
            case "file":
                return path, Blob(base64.b64decode(value["content"]), is_lfs=False)
            case "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refusal(400, f"{path}: the LFS object is not stored")
                return path, Blob(self.objects[value["oid"]], is_lfs=True)
            case "deletedFile" if path in head.files:
                return path, None
        raise Refusal(404, f"{key} {path}: A file with this name doesn't exist", "EntryNotFound")

    def storage(self, asked: "Asked") -> Reply:
        if asked.groups[0] not in self.objects:
            raise Refusal(404, "no such object")
        return Reply(self.objects[asked.groups[0]])

    def store_object(self, asked: "Asked") -> Reply:
        if hashlib.sha256(asked.body).hexdigest() != asked.groups[0]:
            raise Refusal(400, "the content's sha256 is another")
        self.objects[asked.groups[0]] = asked.body
        return Reply(b"")

    # Pull requests

    def list_discussions(self, asked: "Asked") -> Reply:
        repo, _ = self._readable(asked, "main")
        shown = [self._discussion(asked.groups[0], pull) for pull in repo.pulls]
        return Reply({"count": len(shown), "start": 0, "discussions": shown})

    def open_discussion(self, asked: "Asked") -> Reply:
        repo, head = self._readable(asked, "main")
        if asked.account is None or asked.account.role != "write":
            raise Refusal(403, "a token with write permission is needed")
        num = len(repo.pulls) + 1
        repo.pulls.append(PullRequest(num, asked.account.name, asked.json["title"], head.oid))
        return Reply({"num": num})

    def discussion(self, asked: "Asked") -> Reply:
        repo, _ = self._readable(asked, "main")
        details = {"changes": {"base": "main"}, "filesWithConflicts": [], "events": []}
        return Reply(
            self._discussion(asked.groups[0], repo.pulls[int(asked.groups[1]) - 1]) | details
        )

    def change_status(self, asked: "Asked") -> Reply:
        repo, _ = self._readable(asked, "main")
        repo.pulls[int(asked.groups[1]) - 1].status = asked.json["status"]
        event = {"id": "1", "type": "status-change", "createdAt": TIME, "data": asked.json}
        return Reply({"newStatus": event})

    def _discussion(self, repo_id: str, pull: PullRequest) -> dict[str, object]:
        return {
            "num": pull.num,
            "title": pull.title,
            "author": {"name": pull.author},
            "createdAt": TIME,
            "status": pull.status,
            "repo": {"name": repo_id, "type": "dataset"},
            "isPullRequest": True,
        }

    # Rights

    def _readable(self, asked: "Asked", revision: str) -> tuple[Repo, Commit]:
        repo = self.repos.get(asked.groups[0])
        owner = asked.groups[0].split("/")[0]
        namespaces = asked.account.namespaces if asked.account else ()
        if repo is None or (repo.private and owner not in namespaces):
            raise Refusal(404 if asked.account else 401, "Repository not found", "RepoNotFound")
        commit = repo.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit

    def _writable(self, asked: "Asked", repo_id: str, revision: str = "main") -> Repo:
        repo, _ = self._readable(asked.about(repo_id), "main")
        pull = repo.pull(revision)
        owners = {repo_id.split("/")[0], pull.author if pull else None}
        account = asked.account
        if account is None or account.role != "write" or not owners & {*account.namespaces}:
            raise Refusal(403, "you need write permission on this repository")
        return repo


class Asked:
    """One request: who asks, and what for."""

    def __init__(
        self, account: Account | None, query: Mapping[str, str], body: bytes, *groups: str
    ) -> None:
        self.account, self.query, self.body, self.groups = account, query, body, groups

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    def about(self, *groups: str) -> "Asked":
        return Asked(self.account, self.query, self.body, *groups)


_ID = "([^/]+/[^/]+)"
_ROUTES = [
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/validate-yaml", "validate_yaml"),
    (r"POST /api/repos/create", "create_repo"),
    (r"DELETE /api/repos/delete", "delete_repo"),
    (rf"GET /api/(?:datasets|models)/{_ID}", "repo_info"),
    (rf"GET /api/(?:datasets|models)/{_ID}/revision/([^/]+)", "repo_info"),
    (rf"GET /api/datasets/{_ID}/refs", "refs"),
    (rf"GET /api/(?:datasets|models)/{_ID}/tree/([^/]+)", "tree"),
    (rf"GET /api/datasets/{_ID}/tree/([^/]+)/(.+)", "tree"),
    (rf"POST /api/datasets/{_ID}/paths-info/([^/]+)", "paths_info"),
    (rf"POST /api/datasets/{_ID}/branch/([^/]+)", "create_branch"),
    (rf"POST /api/datasets/{_ID}/tag/([^/]+)", "create_tag"),
    (rf"POST /api/datasets/{_ID}/preupload/([^/]+)", "preupload"),
    (rf"POST /api/datasets/{_ID}/commit/([^/]+)", "make_commit"),
    (rf"GET /api/datasets/{_ID}/discussions", "list_discussions"),
    (rf"POST /api/datasets/{_ID}/discussions", "open_discussion"),
    (rf"GET /api/datasets/{_ID}/discussions/(\d+)", "discussion"),
    (rf"POST /api/datasets/{_ID}/discussions/(\d+)/status", "change_status"),
    (rf"POST /datasets/{_ID}.git/info/lfs/objects/batch", "lfs_batch"),
    (r"POST /lfs-verify/(\w+)", "lfs_verify"),
    (rf"(?:GET|HEAD) /(?:datasets/)?{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    (r"PUT /objects/(\w+)", "store_object"),
    (r"(?:GET|HEAD) /objects/(\w+)", "storage"),
]
