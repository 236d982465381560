"""The page of all results."""

import re
from dataclasses import replace

import pytest

from benchmarks.page import (
    OTHER_PAGES,
    PAGE,
    RESULTS,
    SECTIONS,
    PageError,
    Published,
    load_published,
    load_results,
    page,
)
from benchmarks.results import Origin, Result, Table

ORIGIN = Origin("python -m benchmarks.search", "1.0", "abc", "2030-01-31", "2 cores", {"hpo": "1.0"})
RESULT = Result("search", "28 trials", 3, ORIGIN, [Table("Seconds", ("search", "s"), [("hpo", "2.0")])])
OTHER = replace(RESULT, benchmark="overhead", origin=replace(ORIGIN, revision="def"))


def test_page_in_docs_is_that_of_the_kept_results() -> None:
    assert PAGE.read_text() == page(load_results(RESULTS), load_published(RESULTS))


def test_kept_results_are_of_known_benchmarks() -> None:
    assert {result.benchmark for result in load_results(RESULTS)} <= SECTIONS.keys()


def test_result_has_its_tables_and_its_origin() -> None:
    text = page([RESULT], [])
    assert "All results in this part are of hpo 1.0 (revision abc)." in text
    assert "**Seconds**\n\n| search | s |\n| --- | --- |\n| hpo | 2.0 |\n" in text
    assert "`python -m benchmarks.search`, 2030-01-31; 2 cores; hpo 1.0." in text


def test_benchmarks_without_a_result_are_one_sentence() -> None:
    text = page([RESULT], [])
    assert text.count("\n## ") == 1
    sentence = next(line for line in text.splitlines() if line.startswith("Not measured"))
    assert {*re.findall(r"`(\w+)`", sentence)} == SECTIONS.keys() - OTHER_PAGES.keys() - {"search"}


def test_page_of_another_benchmark_is_linked() -> None:
    assert "`ideas` in [ideas.md](ideas.md)" in page([RESULT], [])


def test_results_come_in_the_order_of_the_sections() -> None:
    same = replace(OTHER, origin=ORIGIN)
    text = page([same, RESULT], [])
    assert text.index("## A whole search") < text.index("## Bookkeeping") < text.index("Not measured")


def test_results_of_different_versions_are_refused() -> None:
    with pytest.raises(PageError, match=r"1\.0 \(revision abc\): search; 1\.0 \(revision def\): overhead"):
        page([RESULT, OTHER], [])


def test_mixed_results_state_their_versions() -> None:
    text = page([RESULT, OTHER], [], mixed=True)
    assert "hpo 1.0 (revision abc); 2 cores" in text
    assert "hpo 1.0 (revision def); 2 cores" in text


def test_published_figures_come_last_under_their_version() -> None:
    published = Published("Old", "0.1", "4 cores", "5", "python -m x", ("a",), (("1",),), ("A note.",))
    text = page([RESULT], [published])
    assert text.endswith(
        "### Old\n\n- version: 0.1\n- hardware: 4 cores\n- n: 5\n- command: `python -m x`\n\n"
        "| a |\n| --- |\n| 1 |\n\nA note.\n"
    )
