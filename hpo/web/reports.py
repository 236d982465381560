"""The report of a study, live: made from the database when it is asked for."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from hpo.errors import HpoError, NotFoundError
from hpo.store import histories
from hpo.store.connection import Storage
from hpo.study.stored import load
from hpo.values.stage import STAGES

PREFIX = "/report/"
SCRIPT = "plotly.js"
MAX_PAGES = 8
"""Pages that are kept. One of a large study has about a megabyte."""

HOUR = 3600


def with_reports(app: WSGIApplication, storage: Storage) -> WSGIApplication:
    """Serve `/report/NAME` beside an application. The storage may be read-only: nothing is written."""
    pages = _Pages(storage)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if not path.startswith(PREFIX) or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return app(environ, start_response)
        name = path.removeprefix(PREFIX)
        try:
            answer = _script() if name == SCRIPT else pages.get(name)
        except NotFoundError as error:
            answer = _refusal(HTTPStatus.NOT_FOUND, error)
        except HpoError as error:
            answer = _refusal(HTTPStatus.SERVICE_UNAVAILABLE, error)
        return answer.send(environ, start_response)

    return serve


class _Answer:
    """A body with its type, and a tag that changes with it."""

    def __init__(
        self, body: bytes, kind: str, tag: str, status: HTTPStatus = HTTPStatus.OK, max_age: int = 0
    ) -> None:
        self._body, self._kind, self._tag, self._status = body, kind, f'"{tag}"', status
        self._cache = f"private, max-age={max_age}" if max_age else "private, no-cache"

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send the body, or say that the client has it."""
        headers = [("ETag", self._tag), ("Cache-Control", self._cache)]
        if self._status == HTTPStatus.OK and environ.get("HTTP_IF_NONE_MATCH") == self._tag:
            start_response("304 Not Modified", headers)
            return []
        headers += [("Content-Type", self._kind), ("Content-Length", str(len(self._body)))]
        start_response(f"{self._status.value} {self._status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self._body]


class _Pages:
    """Pages of unchanged studies. One page is made at a time, so that requests do not pile up work."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[str, _Answer]] = OrderedDict()

    def get(self, name: str) -> _Answer:
        """Return the page of a study. Raises `NotFoundError` for an unknown study, and other `HpoError`s."""
        study = load(self._storage, name)
        with self._lock:
            with self._storage.snapshot() as connection:
                ids = [study.study_id(stage) for stage in STAGES]
                version = histories.version(connection, study.name, ids)
            version = sha256(f"{study.key} {version}".encode()).hexdigest()[:32]
            known = self._known.get(study.name)
            if known is None or known[0] != version:
                known = version, self._make(name, version)
            self._known[study.name] = known
            self._known.move_to_end(study.name)
            while len(self._known) > MAX_PAGES:
                self._known.popitem(last=False)
            return known[1]

    def _make(self, name: str, version: str) -> _Answer:
        # The imports take a second, which the dashboard itself must not wait for.
        from hpo.report import make_report, read_study, render

        page = render(make_report(read_study(self._storage, load(self._storage, name))), plotly=SCRIPT)
        return _Answer(page.encode(), "text/html; charset=utf-8", version)


def _script() -> _Answer:
    from hpo.report.page import plotly_script

    body = plotly_script().encode()
    return _Answer(body, "text/javascript; charset=utf-8", sha256(body).hexdigest()[:32], max_age=HOUR)


def _refusal(status: HTTPStatus, error: HpoError) -> _Answer:
    page = f"<!doctype html><title>hpo</title><p>{escape(str(error))}</p>"
    return _Answer(page.encode(), "text/html; charset=utf-8", "none", status)
