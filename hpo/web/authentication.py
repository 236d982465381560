"""HTTP Basic authentication with one password."""

import hmac
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from hpo.web.guard import refuse

CHALLENGE = ("WWW-Authenticate", 'Basic realm="hpo dashboard", charset="UTF-8"')


def with_password(app: WSGIApplication, password: str) -> WSGIApplication:
    """Refuse requests without the password. Any user name is accepted."""
    expected = sha256(password.encode()).digest()  # a fixed length, so that timing does not leak the length

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Remove the password, so that no application behind this middleware can log it.
        given = _password(str(environ.pop("HTTP_AUTHORIZATION", "")))
        if given is not None and hmac.compare_digest(sha256(given).digest(), expected):
            return app(environ, start_response)
        reason = "the dashboard needs its password, with any user name"
        return refuse(environ, start_response, HTTPStatus.UNAUTHORIZED, reason, [CHALLENGE])

    return guarded


def _password(header: str) -> bytes | None:
    """Return the password in an `Authorization` header, None if the header has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return password if colon else None
