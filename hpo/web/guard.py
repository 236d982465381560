"""WSGI middlewares that refuse requests: other hosts, other origins, changes to a read-only dashboard.

Each middleware maps an application to an application. A refusal is JSON with a `reason`, which
optuna-dashboard shows.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from hpo.web.address import HostNames

Headers: TypeAlias = list[tuple[str, str]]
ErrorInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
)

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing."""

SECURITY_HEADERS: Headers = [
    ("Content-Security-Policy", "frame-ancestors 'self'"),  # beside the policy of optuna-dashboard's pages
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
]

_PORTS = {"http": 80, "https": 443}


def only_hosts(app: WSGIApplication, names: HostNames) -> WSGIApplication:
    """Refuse requests with a `Host` header that is not in `names`."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = str(environ.get("HTTP_HOST", ""))
        if host in names:
            return app(environ, start_response)
        reason = f"{host[:100]!r} is not a name of this dashboard; to allow a name: --allow-host NAME"
        return refuse(environ, start_response, HTTPStatus.FORBIDDEN, reason)

    return guarded


def read_only(app: WSGIApplication) -> WSGIApplication:
    """Refuse all methods that may change studies."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return app(environ, start_response)
        reason = "the dashboard is read-only; to change studies: hpo dashboard --writable"
        status, allow = HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", ", ".join(sorted(READING)))]
        return refuse(environ, start_response, status, reason, allow)

    return guarded


def same_origin(app: WSGIApplication) -> WSGIApplication:
    """Refuse changes from pages of another origin, and changes without an origin.

    A browser sends the dashboard's login with requests of every page, and `Origin` with every change.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING or _is_same_origin(environ):
            return app(environ, start_response)
        reason = f"a change needs the header Origin: http://{environ.get('HTTP_HOST', '')}"
        return refuse(environ, start_response, HTTPStatus.FORBIDDEN, reason)

    return guarded


def with_security_headers(app: WSGIApplication) -> WSGIApplication:
    """Add `SECURITY_HEADERS` to every answer."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: Headers, error: ErrorInfo = None, /) -> Any:
            return start_response(status, [*headers, *SECURITY_HEADERS], error)

        return app(environ, start)

    return guarded


def refuse(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: HTTPStatus,
    reason: str,
    headers: Headers | None = None,
) -> Iterable[bytes]:
    """Answer with a status and a reason, without calling the application."""
    body = json.dumps({"reason": reason}).encode()
    length = ("Content-Length", str(len(body)))
    kind = ("Content-Type", "application/json")
    start_response(f"{status.value} {status.phrase}", [kind, length, *(headers or [])])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _is_same_origin(environ: WSGIEnvironment) -> bool:
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
        return False
    try:
        origin = urlsplit(str(environ.get("HTTP_ORIGIN", "")))
        host = urlsplit(f"{origin.scheme}://{environ.get('HTTP_HOST', '')}")
        default = _PORTS[origin.scheme]
        return (origin.hostname, origin.port or default) == (host.hostname, host.port or default)
    except (KeyError, ValueError):  # no origin, `null`, or not a URL
        return False
