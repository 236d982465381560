"""A report as HTML."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from support.report_data import study_data, trial
from support.study_file import TEXT, load

from hpo.report.blocks import Block, Code, Figure, Report, Section, Table, Text, Warnings
from hpo.report.page import figure_json, numeric_columns, render
from hpo.report.report import make_report

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def policy_of(text: str) -> str:
    return str(next(each["content"] for each in Page(text).of("meta") if "http-equiv" in each))


@pytest.fixture(scope="module")
def text() -> str:
    spec = load(TEXT)
    return render(make_report(study_data([trial(0, [0.5, 0.4]), trial(1, [0.6])], spec)))


def test_page_asks_no_other_host(text: str) -> None:
    page = Page(text)
    for tag in ("script", "img", "link", "iframe", "a"):
        for attributes in page.of(tag):
            address = attributes.get("src") or attributes.get("href") or ""
            assert address.startswith(("#", "data:")) or not address
    assert "default-src 'none'" in policy_of(text)
    assert "connect-src 'none'" in policy_of(text)


def test_policy_allows_the_scripts_of_the_page_alone(text: str) -> None:
    page, policy = Page(text), policy_of(text)
    allowed = set(re.findall(r"'(sha256-[^']+)'", policy))
    kinds = [attributes.get("type") for attributes in page.of("script")]
    run = [script for kind, script in zip(kinds, page.scripts, strict=True) if kind is None]
    assert {f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}" for script in run} == allowed
    assert len(run) == 2
    assert "unsafe-eval" not in policy


def test_page_of_a_server_links_the_script() -> None:
    text = render(make_report(study_data([trial(0, [0.5])])), plotly="plotly.min.js")
    assert len(text) < 100_000
    assert [each["src"] for each in Page(text).of("script") if "src" in each] == ["plotly.min.js"]
    assert "script-src 'sha256-" in policy_of(text)
    assert "'self'" in policy_of(text)


def test_text_from_the_database_stays_text() -> None:
    blocks: list[Block] = [
        Text([EVIL]),
        Warnings([EVIL]),
        Table([EVIL], [[EVIL]]),
        Code(EVIL, [EVIL]),
        Figure(EVIL, [{"name": EVIL}], {"height": 1}),
    ]
    page = Page(render(Report(EVIL, EVIL, [Section("a", EVIL, blocks)]), plotly="x.js"))
    assert page.of("img") == []
    assert not any("alert(1)" in script for script in page.scripts if "newPlot" in script)
    figures = [script for script, each in zip(page.scripts, page.of("script"), strict=True) if "type" in each]
    assert [json.loads(script)["data"][0]["name"] for script in figures] == [EVIL]


def test_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        figure_json(Figure("", [{"y": [float("nan")]}], {}))


def test_columns_of_numbers_are_found() -> None:
    rows = [["1", "0.5 ± 0.1", "a", "-"], ["20", "50.00 ± 1.00 %", "2", "3"]]
    assert numeric_columns(rows) == [True, True, False, True]


def test_contents_lists_every_section(text: str) -> None:
    page = Page(text)
    anchors = [each["href"] for each in page.of("a")]
    assert anchors == [f"#{each['id']}" for each in page.of("section")]
