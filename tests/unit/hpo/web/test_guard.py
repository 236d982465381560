import json
from wsgiref.types import WSGIApplication

import pytest
from support.wsgi import ask, hello

from hpo.web.address import host_names, resolve
from hpo.web.guard import SECURITY_HEADERS, only_hosts, read_only, same_origin, with_security_headers

CHANGING = ("POST", "PUT", "PATCH", "DELETE", "post", "PROPFIND", "CONNECT", "TRACE")


@pytest.fixture
def hosted() -> WSGIApplication:
    return only_hosts(hello, host_names(resolve("127.0.0.1", 0), ["hpo.example.com"]))


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:9", "hpo.example.com"])
def test_own_name_passes(hosted: WSGIApplication, host: str) -> None:
    assert ask(hosted, host=host).body == b"hello"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_name_of_another_site_is_refused(hosted: WSGIApplication, method: str) -> None:
    answer = ask(hosted, method, host="evil.example:8080")
    assert answer.status == 403
    assert json.loads(answer.body) == {
        "reason": "'evil.example:8080' is not a name of this dashboard; to allow a name: --allow-host NAME"
    }


def test_forwarded_name_is_not_believed(hosted: WSGIApplication) -> None:
    assert ask(hosted, host="evil.example", x_forwarded_host="localhost").status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_passes_a_read_only_dashboard(method: str) -> None:
    assert ask(read_only(hello), method).status == 200


@pytest.mark.parametrize("method", CHANGING)
def test_read_only_dashboard_refuses_every_other_method(method: str) -> None:
    answer = ask(read_only(hello), method, origin="http://127.0.0.1:8080")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "hpo dashboard --writable" in json.loads(answer.body)["reason"]


SAME = [
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"},
    {"origin": "http://[::1]:8080", "host": "[::1]:8080"},
    {"origin": "http://localhost", "host": "localhost:80"},
    {"origin": "https://hpo.example.com", "host": "hpo.example.com"},
    {"origin": "https://HPO.example.com", "host": "hpo.example.com:443"},
]
OTHER = [
    {},
    {"origin": ""},
    {"origin": "null"},
    {"origin": "127.0.0.1:8080"},
    {"origin": "file://"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:8081"},
    {"origin": "http://localhost:8080"},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:8080.evil.example"},
    {"origin": "http://[::1"},
    {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "cross-site"},
    {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-site"},
    {"referer": "http://127.0.0.1:8080/"},
]


@pytest.mark.parametrize("headers", SAME)
def test_change_from_the_own_page_passes(headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(same_origin(hello), method, **headers).status == 200


@pytest.mark.parametrize("headers", OTHER)
def test_change_from_another_origin_is_refused(headers: dict[str, str]) -> None:
    for method in CHANGING:
        answer = ask(same_origin(hello), method, **headers)
        assert answer.status == 403
        assert "a change needs the header Origin: http://127.0.0.1:8080" in json.loads(answer.body)["reason"]


def test_reading_needs_no_origin() -> None:
    for headers in OTHER:
        assert ask(same_origin(hello), "GET", **headers).status == 200


def test_every_answer_has_the_security_headers() -> None:
    app = with_security_headers(read_only(hello))
    for method, status in (("GET", 200), ("POST", 405)):
        answer = ask(app, method)
        assert answer.status == status
        assert {name.lower(): value for name, value in SECURITY_HEADERS}.items() <= answer.headers.items()


def test_refusal_of_head_has_no_body(hosted: WSGIApplication) -> None:
    answer = ask(hosted, "HEAD", host="evil.example")
    assert (answer.status, answer.body) == (403, b"")
