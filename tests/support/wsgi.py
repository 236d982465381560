"""Call a WSGI application without a socket."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults


@dataclass(frozen=True)
class Answer:
    """What an application answered. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(app: WSGIApplication, method: str = "GET", path: str = "/", body: str = "", **headers: str) -> Answer:
    """Return the answer to a request. The keyword `sec_fetch_site` is the header `Sec-Fetch-Site`."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "HTTP_HOST": "127.0.0.1:8080",
        "HTTP_ACCEPT_ENCODING": "identity",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body.encode())),
        "wsgi.input": BytesIO(body.encode()),
        **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }
    setup_testing_defaults(environ)
    began: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], error: object = None, /) -> Any:
        began[:] = [status, headers]

    chunks = app(environ, start)
    content = b"".join(chunks)
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
    status, pairs = began
    return Answer(int(status.split()[0]), {name.lower(): value for name, value in pairs}, content)


def basic(password: str, user: str = "me") -> str:
    """Return the value of an `Authorization` header."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer every request with 200."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
