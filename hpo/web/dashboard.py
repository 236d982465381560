"""optuna-dashboard on the storage of this service."""

from collections.abc import Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna_dashboard import wsgi

from hpo.errors import InputError
from hpo.store.connection import Storage


class _Server(ThreadingMixIn, WSGIServer):
    """A server for concurrent requests: one page polls while another loads."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Drop the line that the base class logs for each request."""


def serve(storage: Storage, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the dashboard until an interrupt. Call `ready` with the URL once the server listens.

    Port 0 takes a free port. Raises `InputError` if the address cannot be used.
    """
    try:
        server = make_server(host, port, wsgi(storage.backend), _Server, _QuietHandler)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}; try another --port") from error
    with server:
        ready(f"http://{host}:{server.server_port}/")
        server.serve_forever()
