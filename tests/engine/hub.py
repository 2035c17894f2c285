"""A hub on this machine: answers over HTTP as huggingface.co does, to readers and writers.

It begins with a few small models. They are public unless the name says otherwise: `org/gated` and
`org/private` can be read with the tokens READER and WRITER alone; WRITER may write too; STRANGER
is a valid token of somebody else's.
"""

import base64
import hashlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs

from tests.processes import ROOT

READER, WRITER, STRANGER = "hf_reader", "hf_writer", "hf_stranger"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE, CONTENT = "number.txt", b"2.0"

_BLOCK = 1 << 16

_READ = re.compile(
    r"/(?:api/models/)?(?P<repo>org/[\w-]+)"
    r"/(?P<verb>revision|tree|resolve)/(?P<revision>[^/]+)(?:/(?P<file>[^?]+))?"
)
_INFO = re.compile(r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>org/[\w-]+)")
_WRITE = re.compile(
    r"/api/models/(?P<repo>org/[\w-]+)"
    r"/(?P<verb>preupload|commit|branch|xet-write-token)/(?P<revision>[^/?]+)"
)
_BATCH = re.compile(r"/(?P<repo>org/[\w-]+)\.git/info/lfs/objects/batch")


@attrs.frozen
class File:
    """A file of a commit: its bytes, or the sha256 and size of a large one."""

    size: int
    content: bytes | None = None
    sha256: str | None = None

    def facts(self, path: str) -> dict[str, Any]:
        """What a listing tells."""
        if self.sha256 is None:
            assert self.content is not None
            blob = hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()
            return {"type": "file", "path": path, "size": self.size, "oid": blob}
        lfs = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        oid = hashlib.sha1(self.sha256.encode()).hexdigest()
        return {"type": "file", "path": path, "size": self.size, "oid": oid, "lfs": lfs}

    @property
    def oid(self) -> str:
        """What tells its content: sha256 of a large file, git's hash of another."""
        return self.sha256 or self.facts("")["oid"]


Files = dict[str, File]


@attrs.define
class Model:
    """A repository."""

    private: bool = False
    commits: dict[str, Files] = attrs.field(factory=lambda: {COMMIT: small_files()})
    branches: dict[str, str] = attrs.field(factory=lambda: {"main": COMMIT})
    messages: list[str] = attrs.field(factory=list[str])

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision means."""
        return self.branches.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> Files:
        """Files of the branch `main`."""
        return self.commits[self.branches["main"]]


def small_files() -> Files:
    """One small file."""
    return {FILE: File(len(CONTENT), CONTENT)}


@attrs.define
class Hub:
    """What the hub holds, and what went over the wire."""

    address: str = ""
    models: dict[str, Model] = attrs.field(
        factory=lambda: {
            "org/open": Model(), "org/gated": Model(), "org/private": Model(private=True)
        }
    )  # fmt: skip
    datasets: set[str] = attrs.field(factory=lambda: {"org/pictures"})
    stored: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    """Large files by sha256, committed or not."""
    xet: Path | None = None
    """Where clients keep large files themselves, by Xet's protocol; None without it."""
    received: Counter[str] = attrs.field(factory=Counter[str])
    """Bytes of large files that came in, by sha256."""
    sent: Counter[str] = attrs.field(factory=Counter[str])
    """Bytes of files that went out, by path."""
    stall: tuple[str, int] | None = None
    """A file's path, a large one's sha256 or `commit`, and after how many bytes it stands still."""
    stalled: threading.Event = attrs.field(factory=threading.Event)
    spoilt: set[str] = attrs.field(factory=set[str])
    """Paths of files of which other bytes go out."""

    def stands_still(self, name: str, done: int) -> bool:
        """Stand still for as long as the stall is there, if it is one of this file.

        Returns whether it did: the client was killed meanwhile, so the rest of its request doesn't
        count.
        """
        stood = False
        while self.stall is not None and self.stall[0] == name and done >= self.stall[1]:
            stood = True
            self.stalled.set()
            time.sleep(0.01)
        return stood


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        """Answer a request for metadata or for a file."""
        self._read_request()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answer a request to write."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        token = self._token()
        if token not in ("", READER, WRITER, STRANGER):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if token != WRITER:
            return self._refuse(403, "", "You don't have the rights to write")
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if batch := _BATCH.fullmatch(path):
            assert batch["repo"] in self.hub.models
            return self._send(
                {"objects": [self._offer(item) for item in json.loads(body)["objects"]]}
            )
        asked = _WRITE.fullmatch(path)
        assert asked is not None, path
        model, revision = self.hub.models[asked["repo"]], unquote(asked["revision"])
        if asked["verb"] == "branch":
            model.branches[revision] = model.branches["main"]
            return self._send({})
        if revision not in model.branches:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        files = model.commits[model.branches[revision]]
        if asked["verb"] == "preupload":
            return self._send({"files": [_mode(item, files) for item in json.loads(body)["files"]]})
        if self._gives_up("commit", 0):
            return
        self._commit(model, asked["repo"], revision, dict(files), body)

    def do_PUT(self) -> None:
        """Take a large file's bytes."""
        sha256 = self.path.rpartition("/")[2]
        left, content = int(self.headers["Content-Length"]), b""
        while left:
            if self._gives_up(sha256, len(content)):
                return
            block = self.rfile.read(min(_BLOCK, left))
            assert block
            left -= len(block)
            content += block
            self.hub.received[sha256] += len(block)
        assert hashlib.sha256(content).hexdigest() == sha256
        self.hub.stored[sha256] = content
        self._send({})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _gives_up(self, name: str, done: int) -> bool:
        self.close_connection = self.hub.stands_still(name, done)
        return self.close_connection

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _read_request(self) -> None:
        path, token = self.path.partition("?")[0], self._token()
        if token not in ("", READER, WRITER, STRANGER):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if path == "/api/models":
            known = token in (READER, WRITER)
            return self._send(
                [
                    {"id": name, "private": model.private}
                    for name, model in self.hub.models.items()
                    if known or not model.private
                ]
            )
        info, asked, write = (pattern.fullmatch(path) for pattern in (_INFO, _READ, _WRITE))
        if write is not None:
            assert write["verb"] == "xet-write-token" and token == WRITER
            return self._send(
                {"accessToken": "t", "exp": 1 << 32, "casUrl": f"local://{self.hub.xet}"}
            )
        if info is None and asked is None:
            return self._refuse(404, "", "no such page")
        if info is not None and info["kind"] != "models":
            known = info["kind"] == "datasets" and info["repo"] in self.hub.datasets
            return self._send({"id": info["repo"]}) if known else self._refuse_unknown(token)
        repo = (info or asked or {})["repo"]
        if repo == "org/down":
            return self._refuse(503, "", "the hub is being mended")
        model = self.hub.models.get(repo)
        if model is None or (model.private and token not in (READER, WRITER)):
            return self._refuse_unknown(token)
        commit = model.commit_of("main" if asked is None else unquote(asked["revision"]))
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        verb = "revision" if asked is None else asked["verb"]
        if verb == "resolve" and repo == "org/gated" and token not in (READER, WRITER):
            # What a gated model consists of is public, its files are not.
            return self._refuse(
                403 if token else 401, "GatedRepo", f"Access to {repo} is restricted"
            )
        files = model.commits[commit]
        if verb == "revision":
            return self._send({"id": repo, "sha": commit, "private": model.private, "siblings": []})
        if verb == "tree":
            return self._send(_listing(files, "recursive=true" in self.path.lower()))
        assert asked is not None
        name = unquote(asked["file"])
        self._send_file(name, files[name], commit)

    def _refuse_unknown(self, token: str) -> None:
        # Without a token the hub doesn't tell what is there.
        self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")

    def _send_file(self, name: str, file: File, commit: str) -> None:
        content = (
            self.hub.stored[file.sha256] if file.content is None and file.sha256 else file.content
        )
        assert content is not None
        if name in self.hub.spoilt:
            content = bytes(len(content))
        headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": commit}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status = 200
        if start is not None:
            first, status = int(start[1]), 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content = content[first:]
        self._head(status, headers, len(content))
        if self.command == "HEAD":
            return
        for at in range(0, len(content), _BLOCK):
            if self._gives_up(name, at):
                return
            block = content[at : at + _BLOCK]
            try:
                self.wfile.write(block)
            except OSError:
                return
            self.hub.sent[name] += len(block)

    def _create(self, given: dict[str, Any]) -> None:
        repo = f"{given['organization']}/{given['name']}"
        if repo in self.hub.models:
            return self._send({"url": f"{self.hub.address}/{repo}"}, status=409)
        attributes = {".gitattributes": File(0, b"")}
        self.hub.models[repo] = Model(given.get("visibility") == "private", {COMMIT: attributes})
        self._send({"url": f"{self.hub.address}/{repo}"})

    def _offer(self, item: dict[str, Any]) -> dict[str, Any]:
        """Where to send a large file, or that it is there."""
        if item["oid"] in self.hub.stored:
            return item
        return {**item, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}}

    def _commit(self, model: Model, repo: str, revision: str, files: Files, body: bytes) -> None:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                model.messages.append(value["summary"])
            elif item["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = File(len(content), content)
            elif item["key"] == "lfsFile":
                assert self.hub.xet is not None or value["oid"] in self.hub.stored
                files[value["path"]] = File(value["size"], sha256=value["oid"])
            else:
                assert item["key"] == "deletedFile"
                del files[value["path"]]
        commit = hashlib.sha1(body).hexdigest()
        model.commits[commit] = files
        model.branches[revision] = commit
        self._send({"commitUrl": f"{self.hub.address}/{repo}/commit/{commit}", "commitOid": commit})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send({"error": message}, headers, status)

    def _send(self, body: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self._head(status, headers or {}, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, text)
        self.end_headers()


def _mode(item: dict[str, Any], files: Files) -> dict[str, Any]:
    """How a file is to be sent, and what the hub has under its name."""
    there = files.get(item["path"])
    return {
        "path": item["path"],
        "uploadMode": "lfs" if item["path"].endswith(".safetensors") else "regular",
        "shouldIgnore": False,
        "oid": None if there is None else there.oid,
    }


def _listing(files: Files, recursive: bool) -> list[dict[str, Any]]:
    if recursive:
        return [file.facts(path) for path, file in files.items()]
    folders = sorted({path.partition("/")[0] for path in files if "/" in path})
    found = [file.facts(path) for path, file in files.items() if "/" not in path]
    return [*found, *({"type": "directory", "path": name, "oid": "0"} for name in folders)]


@contextmanager
def running_hub(hub: Hub) -> Iterator[Hub]:
    """The hub, with the address that it answers at."""
    answers = type("_Answers", (_Answers,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    # A client that was killed leaves an answer that nobody takes.
    server.block_on_close = False
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.stall = None
        server.shutdown()
        thread.join()
        server.server_close()


def users(address: str, home: Path, **variables: str) -> dict[str, str]:
    """The environment of a user with a fresh cache."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HF_")}
    given = {"HF_HOME": str(home), "HF_ENDPOINT": address, "OMP_NUM_THREADS": "1"}
    return {**kept, "PYTHONPATH": str(ROOT), "WANDB_SILENT": "true", **given, **variables}


@contextmanager
def local_hub() -> Iterator[str]:
    """A running hub; gives its address for HF_ENDPOINT."""
    with running_hub(Hub()) as hub:
        yield hub.address
