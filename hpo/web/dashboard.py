"""optuna-dashboard on the storage of this service."""

from collections.abc import Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna_dashboard import wsgi

from hpo.errors import InputError
from hpo.store.connection import Storage


class _Server(ThreadingMixIn, WSGIServer):
    """Several requests at once: a page polls while another loads."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Nobody reads a line for each request."""


def serve(storage: Storage, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves until interrupted; calls `ready` with the URL once it listens. Port 0 takes a free one.

    Raises `InputError` if it cannot listen there.
    """
    try:
        server = make_server(host, port, wsgi(storage.backend), _Server, _QuietHandler)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}; try another --port") from error
    with server:
        ready(f"http://{host}:{server.server_port}/")
        server.serve_forever()
