"""Reports beside optuna-dashboard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from support.claims import claim, finish
from support.wsgi import ask, basic

import hpo.report
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study import lifecycle
from hpo.study.create import create
from hpo.study.study import Study
from hpo.web.address import host_names, resolve
from hpo.web.dashboard import DashboardOptions, application


def options(password: str | None = None) -> DashboardOptions:
    address = resolve("127.0.0.1", 0)
    return DashboardOptions(address=address, names=host_names(address, []), password=password)


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    return create(storage, spec(), "test").study


def test_page_follows_the_study(storage: Storage, reader: Storage, study: Study) -> None:
    app, path = application(reader, options()), f"/report/{study.name}"
    first = ask(app, path=path)
    assert (first.status, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "12 trials of 12 have not ended" in first.body.decode()
    tag = first.headers["etag"]
    assert ask(app, path=path, if_none_match=tag).status == 304
    finish(storage, claim(storage, study, "search", "one", 2))
    second = ask(app, path=path, if_none_match=tag)
    assert second.status == 200
    assert "2 completed search trials" in second.body.decode()
    lifecycle.stop(storage, study)
    assert "stopped by hand" in ask(app, path=path).body.decode()


def test_unchanged_study_is_not_computed_again(
    reader: Storage, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, path = application(reader, options()), f"/report/{study.name}"
    page = ask(app, path=path).body

    def refuse(*_: object) -> None:
        raise AssertionError("the page is made again")

    monkeypatch.setattr(hpo.report, "read_study", refuse)
    assert ask(app, path=path).body == page
    assert ask(app, "HEAD", path).body == b""


def test_page_of_full_training_is_that_of_the_study(reader: Storage, study: Study) -> None:
    app = application(reader, options())
    assert b"<title>Study small - hpo</title>" in ask(app, path="/report/small-full").body


def test_script_comes_from_the_dashboard(reader: Storage) -> None:
    app = application(reader, options())
    script = ask(app, path="/report/plotly.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "max-age" in script.headers["cache-control"]
    assert ask(app, path="/report/plotly.js", if_none_match=script.headers["etag"]).status == 304


def test_unknown_study_is_a_line_of_text(reader: Storage, study: Study) -> None:
    answer = ask(application(reader, options()), path="/report/<script>smal")
    assert answer.status == 404
    assert b"&lt;script&gt;smal" in answer.body
    assert b"<script>" not in answer.body


def test_guards_hold_for_reports(reader: Storage, study: Study) -> None:
    closed = application(reader, options("secret"))
    for path in ("/report/small", "/report/plotly.js"):
        assert ask(closed, path=path).status == 401
        assert ask(closed, path=path, authorization=basic("secret")).status == 200
        assert ask(application(reader, options()), path=path, host="evil.example").status == 403
        assert ask(application(reader, options()), "POST", path).status == 405


def test_page_changes_when_another_program_ends_a_trial(
    storage: Storage, reader: Storage, study: Study
) -> None:
    app = application(reader, options())
    before = ask(app, path="/report/small").headers["etag"]
    with storage.transaction() as connection:
        connection.execute(
            text("UPDATE trials SET state = :state WHERE number = 3 AND study_id = :study"),
            {"state": TrialState.FAIL.name, "study": study.search_id},
        )
    assert ask(app, path="/report/small").headers["etag"] != before
