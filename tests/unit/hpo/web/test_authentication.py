from base64 import b64encode
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from support.wsgi import ask, basic, hello

from hpo.web.authentication import with_password

PASSWORD = "a:pässword"


@pytest.mark.parametrize("user", ["me", "", "admin"])
def test_password_opens_the_application_for_any_user(user: str) -> None:
    answer = ask(with_password(hello, PASSWORD), authorization=basic(PASSWORD, user))
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic ???",
        "Basic ä",
        f"Basic {b64encode(PASSWORD.encode()).decode()}x",
        f"Bearer {b64encode(f'me:{PASSWORD}'.encode()).decode()}",
        f"Basic {b64encode(b'no colon').decode()}",
        f"Basic {b64encode(bytes(range(128, 255))).decode()}",
        basic(""),
        basic("a"),
        basic(PASSWORD[:-1]),
        basic(PASSWORD + "x"),
        basic(PASSWORD.upper()),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_other_headers_are_refused(header: str, method: str) -> None:
    answer = ask(with_password(hello, PASSWORD), method, authorization=header)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="hpo dashboard", charset="UTF-8"'
    assert PASSWORD.encode() not in answer.body


def test_request_without_the_header_is_refused() -> None:
    assert ask(with_password(hello, PASSWORD)).status == 401


def test_application_does_not_get_the_password() -> None:
    seen: dict[str, object] = {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        seen.update(environ)
        return hello(environ, start_response)

    assert ask(with_password(app, PASSWORD), authorization=basic(PASSWORD)).status == 200
    assert "HTTP_AUTHORIZATION" not in seen
