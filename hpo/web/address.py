"""The address a dashboard listens on, and the names that its requests may ask for."""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from hpo.errors import InputError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A resolved address. A socket of the family binds to `sockaddr`."""

    host: str
    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """Return the numeric address."""
        address = ip_address(str(self.sockaddr[0]))
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return mapped or address

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches the address."""
        return self.ip.is_loopback

    def url(self, port: int) -> str:
        """Return the URL of a server on this address."""
        name = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"http://{name}:{port}/"


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names that a request's `Host` header may have. With `any_ip`, also every numeric address.

    In DNS rebinding, another site lets its name resolve to this server, so that its page counts as of the
    same origin. Such a request has the name of the other site in `Host`, never an address.
    """

    names: frozenset[str]
    any_ip: bool = False

    def __contains__(self, header: str) -> bool:
        name = host_name(header)
        return name is not None and (name in self.names or (self.any_ip and _is_ip(name)))


def resolve(host: str, port: int) -> Address:
    """Return the address of a host to listen on. Raises `InputError` for a name that does not resolve."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise InputError(f"--host {host}: {reason}; give an address of this machine") from error
    family, _, _, _, sockaddr = found[0]
    return Address(host, family, sockaddr)


def host_names(address: Address, more: Iterable[str]) -> HostNames:
    """Return the names of a server on `address`, and `more` names, such as the name of a proxy.

    Raises `InputError` for a name in `more` that is not a host name.
    """
    names = set(LOOPBACK_NAMES)
    for name in more:
        parsed = host_name(name)
        if parsed is None:
            raise InputError(f"--allow-host {name}: must be a host name or an address, not a URL")
        names.add(parsed)
    if not address.is_loopback:
        own = (address.host, str(address.ip), socket.gethostname())
        names.update(parsed for name in own if (parsed := host_name(name)) is not None)
    return HostNames(frozenset(names), any_ip=address.ip.is_unspecified)


def host_name(header: str) -> str | None:
    """Return the name in a `Host` header, without the port. None for a header of another form."""
    if _is_ip(header):  # an IPv6 address of the command line has no brackets
        return str(ip_address(header))
    match = _HOST.fullmatch(header)
    if match is None:
        return None
    name = match["name"].lower().removesuffix(".")
    if not name.startswith("["):
        return name or None
    return str(ip_address(name[1:-1])) if _is_ip(name[1:-1]) else None


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
