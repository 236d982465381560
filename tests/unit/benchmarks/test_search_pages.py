"""The generated pages on searches, and the ideas behind one of them."""

from benchmarks import ideas, search_page
from benchmarks.results import ROOT

DOCS = ROOT / "docs"


def test_search_page_has_the_words_of_its_generator() -> None:
    assert (DOCS / "search.md").read_text().startswith(search_page.HEAD)


def test_ideas_page_has_the_words_of_its_generator() -> None:
    text = (DOCS / "ideas.md").read_text()
    measured_on = text.partition("--report docs` (")[2].partition(").\n")[0]
    assert text.startswith(ideas.page_head(measured_on, 30))
    assert all(f"\n| {name} |" in text for name in ideas.IDEAS)


def test_every_idea_is_described() -> None:
    names = {name.rpartition(" ")[0] if name[-1].isdigit() else name for name in ideas.IDEAS}
    described = {name.removesuffix(" N").removesuffix(" P") for name in ideas.DESCRIPTIONS}
    assert names - {"the default"} == described


def test_ideas_patch_names_that_exist() -> None:
    for idea in ideas.IDEAS.values():
        for module, name, _ in idea.patches:
            assert hasattr(module, name)
