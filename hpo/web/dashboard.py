"""optuna-dashboard on hpo's storage, safe by default."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hpo.errors import InputError
from hpo.launch.signals import InterruptSignals
from hpo.web.address import Address, HostNames
from hpo.web.authentication import with_password
from hpo.web.guard import only_hosts, read_only, same_origin, with_security_headers
from hpo.web.reports import with_reports

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from hpo.store.connection import Storage

MAX_BODY = 1 << 20
"""The longest body of a request in bytes: a note, or the attributes of a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """The address and the access rules of a dashboard.

    `names` are the allowed host names. `writable` lets clients change and delete studies. Raises `InputError`
    for an address that other machines reach, unless there is a password.
    """

    address: Address
    names: HostNames
    password: str | None = None
    writable: bool = False

    def __post_init__(self) -> None:
        if self.password is None and not self.address.is_loopback:
            raise InputError(
                f"--host {self.address.host}: other machines reach this address, so the dashboard needs a "
                "password: set HPO_DASHBOARD_PASSWORD_FILE to a file with one, or set HPO_DASHBOARD_PASSWORD"
            )


def application(storage: Storage, options: DashboardOptions) -> WSGIApplication:
    """Return optuna-dashboard and the reports of studies behind their guards.

    The storage of a dashboard that is not `writable` should be read-only itself: see `open_storage`.
    """
    from optuna_dashboard import wsgi

    app = with_reports(cast("WSGIApplication", wsgi(storage.backend)), storage)
    app = same_origin(app) if options.writable else read_only(app)
    if options.password is not None:
        app = with_password(app, options.password)
    return with_security_headers(only_hosts(app, options.names))


def serve(storage: Storage, options: DashboardOptions, ready: Callable[[str], None]) -> None:
    """Serve the dashboard until SIGINT or SIGTERM. Call `ready` with the URL once the server listens.

    Raises `InputError` if the address cannot be used.
    """
    from waitress import create_server

    app = application(storage, options)
    with InterruptSignals(), _listen(options.address) as listener:
        server = create_server(app, sockets=[listener], ident=None, max_request_body_size=MAX_BODY)
        ready(options.address.url(listener.getsockname()[1]))
        server.run()  # it returns after a KeyboardInterrupt


def _listen(address: Address) -> socket.socket:
    both = address.family == socket.AF_INET6 and address.ip.is_unspecified and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address.sockaddr, family=address.family, dualstack_ipv6=both)
    except OSError as error:
        place = address.url(address.sockaddr[1]).removeprefix("http://").removesuffix("/")
        raise InputError(f"cannot listen on {place}: {error.strerror}; try another --port") from error
