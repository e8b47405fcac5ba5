"""The writing half of the Hub of the tests: uploads, commits, pull requests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_ENDINGS = (".safetensors", ".msgpack", ".h5", ".bin")


@dataclass
class Branch:
    """The files of a commit by name, with its number."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


@dataclass
class PullRequest:
    """A pull request."""

    num: int
    title: str
    branch: Branch
    status: str = "open"


@dataclass
class Writes:
    """What was written to a Hub: main branches, pull requests, uploaded objects."""

    main: dict[str, Branch] = field(default_factory=dict)
    pulls: dict[str, list[PullRequest]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def branch(self, name: str, revision: str) -> Branch:
        if found := re.fullmatch(r"refs/pr/(\d+)", unquote(revision)):
            return self.pulls[name][int(found[1]) - 1].branch
        return self.main.setdefault(name, Branch())

    def file(self, name: str, revision: str, file: str) -> bytes | None:
        """Returns the content of a file that was written; None if it was not."""
        is_written = name in self.main or unquote(revision).startswith("refs/pr/")
        return self.branch(name, revision).files.get(file) if is_written else None

    def sha(self, name: str, revision: str) -> str:
        """Returns the commit of a branch that was written; empty for another."""
        is_written = name in self.main or unquote(revision).startswith("refs/pr/")
        branch = self.branch(name, revision) if is_written else Branch()
        if not branch.commits:
            return ""
        return hashlib.sha1(f"{name} {revision} {branch.commits}".encode()).hexdigest()

    def answer(self, method: str, target: str, body: bytes, address: str) -> Any | None:
        """Returns the JSON that a request is answered with; None for an unknown one."""
        parts = urlsplit(target)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if method == "PUT" and (found := re.fullmatch(r"/objects/(\w+)", path)):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.objects[found[1]] = body
            return {}
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            wanted = list(json.loads(body)["objects"])
            return {"transfer": "basic", "objects": [self._upload(one, address) for one in wanted]}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            branch = self.branch(found[1], found[2])
            files = [self._mode(one, branch) for one in json.loads(body)["files"]]
            return {"files": files}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            return self._commit(found[1], found[2], body, "create_pr" in query, address)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/discussions", path):
            return self._discussions(found[1])
        return None

    def _upload(self, one: dict[str, Any], address: str) -> dict[str, Any]:
        if one["oid"] in self.objects:
            return {**one}
        return {**one, "actions": {"upload": {"href": f"{address}/objects/{one['oid']}"}}}

    @staticmethod
    def _mode(one: dict[str, Any], branch: Branch) -> dict[str, Any]:
        name = one["path"]
        mode = "lfs" if name.endswith(LFS_ENDINGS) else "regular"
        present = branch.files.get(name)
        oid = None
        if present is not None:
            blob = f"blob {len(present)}\0".encode() + present
            oid = (
                hashlib.sha256(present).hexdigest()
                if mode == "lfs"
                else hashlib.sha1(blob).hexdigest()
            )
        return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _commit(
        self, name: str, revision: str, body: bytes, creates: bool, address: str
    ) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.splitlines() if line]
        head = lines[0]["value"]
        if creates:
            branch = Branch(dict(self.branch(name, revision).files))
            pulls = self.pulls.setdefault(name, [])
            pulls.append(PullRequest(len(pulls) + 1, head["summary"], branch))
            revision = f"refs/pr/{len(pulls)}"
        branch = self.branch(name, revision)
        for line in lines[1:]:
            value = line["value"]
            branch.files[value["path"]] = (
                base64.b64decode(value["content"])
                if line["key"] == "file"
                else self.objects[value["oid"]]
            )
        branch.commits += 1
        sha = self.sha(name, revision)
        found = {"success": True, "commitOid": sha, "commitUrl": f"{address}/{name}/commit/{sha}"}
        if creates:
            found["pullRequestUrl"] = f"{address}/{name}/discussions/{len(self.pulls[name])}"
        return found

    def _discussions(self, name: str) -> dict[str, Any]:
        pulls = self.pulls.get(name, [])
        shown = [
            {
                "title": one.title, "num": one.num, "author": {"name": "me"}, "createdAt": "2026-01-02T03:04:05.000Z",
                "status": one.status, "repo": {"name": name, "type": "model"}, "isPullRequest": True,
            }
            for one in pulls
        ]  # fmt: skip
        return {"discussions": shown, "count": len(shown), "start": 0}
