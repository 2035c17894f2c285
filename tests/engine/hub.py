"""A hub on this machine: answers over HTTP as huggingface.co does, for a few small models.

Models are public unless the name says otherwise: `org/gated` and `org/private` can be read with the
token READER alone; STRANGER is a valid token of somebody else's.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

READER, STRANGER = "hf_reader", "hf_stranger"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE, CONTENT = "number.txt", b"2.0"

_PATH = re.compile(
    r"/(?:api/models/)?(?P<repo>org/[\w-]+)"
    r"/(?P<verb>revision|tree|resolve)/(?P<revision>[\w.-]+)(?:/(?P<file>[\w.]+))?(?:\?.*)?"
)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a request for metadata or for a file."""
        self._answer(self.headers.get("Authorization", "").removeprefix("Bearer "))

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, token: str) -> None:
        asked = _PATH.fullmatch(self.path)
        if asked is None:
            return self._refuse(404, "", "no such page")
        repo, verb = asked["repo"], asked["verb"]
        if repo == "org/down":
            return self._refuse(503, "", "the hub is being mended")
        if token not in ("", READER, STRANGER):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if repo not in ("org/open", "org/gated", "org/private") or (
            repo == "org/private" and token != READER
        ):
            # Without a token the hub doesn't tell what is there.
            return self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if asked["revision"] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if verb == "resolve" and repo == "org/gated" and token != READER:
            # What a gated model consists of is public, its files are not.
            return self._refuse(
                403 if token else 401, "GatedRepo", f"Access to {repo} is restricted"
            )
        if verb == "revision":
            return self._send({"id": repo, "sha": COMMIT, "siblings": []})
        oid = hashlib.sha1(CONTENT).hexdigest()
        if verb == "tree":
            return self._send([{"type": "file", "path": FILE, "size": len(CONTENT), "oid": oid}])
        assert asked["file"] == FILE
        return self._send(CONTENT, {"ETag": f'"{oid}"', "X-Repo-Commit": COMMIT})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send({"error": message}, headers, status)

    def _send(self, body: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def local_hub() -> Iterator[str]:
    """A running hub; gives its address for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
