"""A server on loopback that answers as the Hub does, as far as huggingface_hub asks: lists, facts of a repository, files.

Run as a program it serves the folders of a folder, ``owner/name`` each, prints its address, and ends with standard input.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_commits import Writes

PAGE = 50
"""How many repositories a page of a list has."""


class Hub(ThreadingHTTPServer):
    """Serves repositories.

    Args:
        root: The folder with a folder ``owner/name`` for each repository.
        failing: Share of the requests that are answered with 503.
        seed: Of the choice of these.

    Attributes:
        writes: What was written.
        extra: Further facts of repositories, e.g. ``{"owner/name": {"gated": "auto"}}``.
    """

    daemon_threads = True

    def __init__(self, root: Path, *, failing: float = 0.0, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.failing = failing
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.downloads: Counter[str] = Counter()
        self.writes = Writes()
        self.extra: dict[str, dict[str, Any]] = {}
        self.failures = 0
        self.address = f"http://127.0.0.1:{self.server_port}"

    def repositories(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob("*/*"))

    def files(self, name: str) -> list[str]:
        folder = self.root / name
        return sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )

    def fails(self) -> bool:
        with self.lock:
            is_failing = self.chance.random() < self.failing
            self.failures += is_failing
        return is_failing


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves a Hub in a thread."""
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def client_environment(hub: Hub, home: Path) -> dict[str, str]:
    """Returns the environment of a process whose huggingface_hub asks this Hub."""
    return {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home), "HF_TOKEN": "hf_test",
    }  # fmt: skip


@cache
def commit_of(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@cache
def etag_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *values: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _write(self) -> None:
        body = self._body()
        if self.server.fails():
            headers = {"Retry-After": "1"}
            self._send(b"busy", HTTPStatus.TOO_MANY_REQUESTS, headers, with_body=True)
            return
        with self.server.lock:
            found = self.server.writes.answer(self.command, self.path, body, self.server.address)
        self._missing("EntryNotFound") if found is None else self._json(found)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, *, with_body: bool) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        if self.server.fails():
            self._send(b"busy", HTTPStatus.SERVICE_UNAVAILABLE, with_body=with_body)
        elif path == "/api/models":
            self._list(parse_qs(address.query))
        elif path.endswith("/discussions"):
            self._json(self.server.writes.answer("GET", self.path, b"", self.server.address))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._facts(found[1], found[2])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.+", path):
            self._tree(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3], with_body=with_body)
        else:
            print("unknown request:", self.command, self.path, file=sys.stderr, flush=True)
            self._missing("EntryNotFound")

    def _list(self, query: dict[str, list[str]]) -> None:
        names = self.server.repositories()
        if author := query.get("author"):
            names = [name for name in names if name.startswith(f"{author[0]}/")]
        begin = int(query.get("cursor", ["0"])[0])
        page = names[begin : begin + PAGE]
        headers = {}
        if begin + PAGE < len(names):
            rest = "&".join(f"{key}={value[0]}" for key, value in query.items() if key != "cursor")
            address = f"{self.server.address}/api/models?{rest}&cursor={begin + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json([self._description(name) for name in page], headers)

    def _description(self, name: str) -> dict[str, Any]:
        siblings = [{"rfilename": file} for file in self.server.files(name)]
        return {
            "id": name,
            "modelId": name,
            "sha": commit_of(name),
            "siblings": siblings,
            "tags": [],
            "private": False,
        }

    def _facts(self, name: str, revision: str | None) -> None:
        if (self.server.root / name).is_dir():
            known = self.server.writes
            facts = {**self._description(name), **self.server.extra.get(name, {})}
            facts["sha"] = known.sha(name, revision or "main") or facts["sha"]
            self._json(facts)
        else:
            self._missing("RepoNotFound")

    def _tree(self, name: str) -> None:
        folder = self.server.root / name
        self._json(
            [
                {
                    "type": "file",
                    "path": file,
                    "size": (folder / file).stat().st_size,
                    "oid": etag_of(folder / file),
                }
                for file in self.server.files(name)
            ]
        )

    def _file(self, name: str, revision: str, file: str, *, with_body: bool) -> None:
        content = self.server.writes.file(name, revision, file)
        if content is not None:
            etag = hashlib.sha256(content).hexdigest()
            commit = self.server.writes.sha(name, revision)
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
            self._send(content, HTTPStatus.OK, headers, with_body=with_body)
            return
        path = self.server.root / name / file
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        content = path.read_bytes()
        headers = {
            "ETag": f'"{etag_of(path)}"',
            "X-Repo-Commit": commit_of(name),
            "Accept-Ranges": "bytes",
        }
        status = HTTPStatus.OK
        if given := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            end = int(given[2]) + 1 if given[2] else len(content)
            headers["Content-Range"] = f"bytes {given[1]}-{end - 1}/{len(content)}"
            content, status = content[int(given[1]) : end], HTTPStatus.PARTIAL_CONTENT
        if with_body:
            with self.server.lock:
                self.server.downloads[f"{name}/{file}"] += 1
        self._send(content, status, headers, with_body=with_body)

    def _json(self, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), HTTPStatus.OK, headers, with_body=True)

    def _missing(self, code: str) -> None:
        self._send(
            b"{}", HTTPStatus.NOT_FOUND, {"X-Error-Code": code}, with_body=self.command == "GET"
        )

    def _send(
        self,
        content: bytes,
        status: HTTPStatus,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)
