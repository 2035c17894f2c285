"""Serves the page of labels to this machine alone: 127.0.0.1, behind a random word in the path."""

from __future__ import annotations

import json
import secrets
import sys
import traceback
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

from jinja2 import Environment, StrictUndefined

from seethrough.characters.form import list_characters
from seethrough.errors import InputError
from seethrough.label.characters import UNSURE
from seethrough.label.settings import EditSettings
from seethrough.label.store import ChangedError, Store

ADDRESS = "127.0.0.1"
MAX_BODY = 16 * 2**20
"""Bytes of labels that are taken at once."""

_POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LabelServer(ThreadingHTTPServer):
    """A server of one folder of characters; `url` is its page.

    Raises:
        InputError: when the folder has no character, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0) -> None:
        if not list_characters(root):
            raise InputError(
                f"{root}: no character is in it: make some: python -m seethrough.ingest"
            )
        self.store = Store(root)
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"port: {port} can't be had ({error}): 0 takes a free one") from error

    @property
    def origin(self) -> str:
        """Scheme, address and port: where requests must come from."""
        return f"http://{ADDRESS}:{self.server_port}"

    @property
    def url(self) -> str:
        """The page's address; whoever knows it may change labels."""
        return f"{self.origin}/{self.token}/"


def serve(root: Path, settings: EditSettings) -> None:
    """Serve the page until the command is interrupted; raises InputError as `LabelServer`."""
    with LabelServer(root, settings.port) as server:
        print(f"{server.url}\nCtrl+C closes it; every change is saved at once", flush=True)
        if settings.browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("closed")


def page_html() -> str:
    """The page, which loads nothing but what this server has."""
    sources = files("seethrough")
    viewer_style = sources.joinpath("inference/viewer.css").read_text(encoding="utf-8")
    own = {
        name: sources.joinpath(f"label/{name}").read_text(encoding="utf-8")
        for name in ("edit.html.j2", "edit.css", "edit.js")
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(own["edit.html.j2"]).render(
        style=viewer_style + own["edit.css"], script=own["edit.js"], unsure=UNSURE
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: LabelServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """The page, the list, a character, or a layer's picture."""
        self._answer(self._get)

    def do_PUT(self) -> None:
        """Labels of a character."""
        self._answer(self._put)

    def _answer(self, work: Callable[[list[str]], None]) -> None:
        if not self._allowed():
            # The body was not read, so the connection can't be used again.
            self.close_connection = True
            self._send(HTTPStatus.FORBIDDEN, b"")
            return
        words = [unquote(word) for word in self.path.partition("?")[0].split("/")[2:]]
        try:
            work(words)
        except ChangedError as problem:
            self._json(HTTPStatus.CONFLICT, {"error": str(problem)})
        except InputError as problem:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(problem)})
        except BrokenPipeError:
            self.close_connection = True
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": repr(error)})

    def _allowed(self) -> bool:
        """Whether the request knows the word, and comes from the page or the address bar.

        The host is checked too: another site's name may be made to point here.
        """
        server = self.server
        origin = self.headers.get("Origin")
        given = self.path.split("/")[1] if self.path.startswith("/") else ""
        return (
            self.headers.get("Host") == server.origin.removeprefix("http://")
            and origin in (None, server.origin)
            and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
            and secrets.compare_digest(given.encode(), server.token.encode())
        )

    def _get(self, words: list[str]) -> None:
        store = self.server.store
        match words:
            case [""]:
                self._send(HTTPStatus.OK, page_html().encode(), "text/html; charset=utf-8")
            case ["characters"]:
                self._json(HTTPStatus.OK, store.characters())
            case ["characters", name]:
                self._json(HTTPStatus.OK, store.character(name))
            case ["characters", name, index] if index.isdecimal():
                self._send(HTTPStatus.OK, store.picture(name, int(index)), "image/png")
            case _:
                self._json(HTTPStatus.NOT_FOUND, {"error": f"nothing is at {self.path}"})

    def _put(self, words: list[str]) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            raise InputError(f"labels of {length or 'unknown'} bytes: at most {MAX_BODY} are taken")
        body = self.rfile.read(int(length))
        match words:
            case ["characters", name]:
                try:
                    content = json.loads(body)
                    labels, revision = content["labels"], str(content["revision"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise InputError(f"labels and revision are expected: {error!r}") from error
                saved = self.server.store.save(name, labels, revision)
                self._json(HTTPStatus.OK, {"revision": saved})
            case _:
                self._json(HTTPStatus.NOT_FOUND, {"error": f"nothing is at {self.path}"})

    def _json(self, status: HTTPStatus, content: object) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
