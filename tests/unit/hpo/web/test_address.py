import socket

import pytest

from hpo.errors import InputError
from hpo.web.address import Address, host_name, host_names, resolve


@pytest.mark.parametrize(
    ("host", "is_loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:80/"),
        ("127.8.8.8", True, "http://127.8.8.8:80/"),
        ("::1", True, "http://[::1]:80/"),
        ("::ffff:127.0.0.1", True, "http://127.0.0.1:80/"),
        ("0.0.0.0", False, "http://0.0.0.0:80/"),
        ("::", False, "http://[::]:80/"),
        ("192.0.2.7", False, "http://192.0.2.7:80/"),
        ("::ffff:192.0.2.7", False, "http://192.0.2.7:80/"),
    ],
)
def test_only_loopback_addresses_are_loopback(host: str, is_loopback: bool, url: str) -> None:
    address = resolve(host, 80)
    assert (address.is_loopback, address.url(80)) == (is_loopback, url)


def test_localhost_is_loopback() -> None:
    assert resolve("localhost", 0).is_loopback


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "a" * 70 + ".example", "1.2.3.4.5", "http://localhost"]
)
def test_host_that_does_not_resolve_is_one_line(host: str) -> None:
    with pytest.raises(InputError, match=r"^--host .*; give an address of this machine$") as error:
        resolve(host, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8080", "localhost"),
        ("localhost.:8080", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8080", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("::1", "::1"),
        ("", None),
        (".", None),
        ("a b", None),
        ("localhost:8080:1", None),
        ("localhost@evil.example", None),
        ("localhost/evil", None),
        ("localhost\n", None),
        ("[localhost]", None),
        ("[::1", None),
        ("evil.example, localhost", None),
    ],
)
def test_name_of_a_host_header(header: str, name: str | None) -> None:
    assert host_name(header) == name


REBOUND = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "2130706433", "0x7f.1", ""]
"""Names that another site can let resolve to this machine, and what is no name."""


@pytest.mark.parametrize("header", REBOUND)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "192.0.2.7"])
def test_names_of_other_sites_are_refused(host: str, header: str) -> None:
    names = host_names(resolve(host, 0), [])
    assert header not in names
    assert f"{header}:8080" not in names


@pytest.mark.parametrize("header", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"])
def test_names_of_this_machine_are_allowed(header: str) -> None:
    for host in ("127.0.0.1", "::1", "0.0.0.0", "192.0.2.7"):
        assert header in host_names(resolve(host, 0), [])


def test_address_is_allowed_where_the_server_listens_on_it() -> None:
    assert "192.0.2.7:80" not in host_names(resolve("127.0.0.1", 0), [])
    assert "192.0.2.7:80" in host_names(resolve("192.0.2.7", 0), [])
    assert "192.0.2.8:80" not in host_names(resolve("192.0.2.7", 0), [])
    assert "192.0.2.7:80" in host_names(resolve("0.0.0.0", 0), [])
    assert "[2001:db8::1]:80" in host_names(resolve("::", 0), [])
    named = Address("trainer.example", socket.AF_INET, ("192.0.2.7", 80))
    assert "trainer.example:80" in host_names(named, [])


def test_further_names_are_allowed() -> None:
    names = host_names(resolve("127.0.0.1", 0), ["HPO.example.com", "2001:db8::1"])
    assert "hpo.example.com" in names
    assert "[2001:db8::1]:443" in names
    assert "example.com" not in names


@pytest.mark.parametrize("name", ["https://hpo.example.com", "a/b", "*", ""])
def test_further_name_must_be_a_name(name: str) -> None:
    with pytest.raises(InputError, match=r"^--allow-host .*: must be a host name or an address, not a URL$"):
        host_names(resolve("127.0.0.1", 0), [name])
