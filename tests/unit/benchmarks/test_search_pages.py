"""The generated pages on searches, and the ideas behind one of them."""

import re

from benchmarks import ideas, search_page
from benchmarks.results import ROOT

DOCS = ROOT / "docs"


def test_search_page_has_the_words_of_its_generator() -> None:
    text = (DOCS / "search.md").read_text()
    assert text.startswith(search_page.ANSWER)
    assert search_page.METHOD in text


def test_pruners_are_compared_early_and_at_the_full_budget() -> None:
    policies = {
        "random, none": {"regret": {"mean": [0.9, 0.8]}},
        "gp, none": {"regret": {"mean": [0.3, 0.01]}},
        "gp, median": {"regret": {"mean": [0.2, 0.03]}},
        "gp, pause": {"regret": {"mean": [0.1, 0.02]}},
    }
    text = search_page.pruners_part({"lenet": {"policies": policies}})
    assert text.endswith(
        "- lenet: 0.0100 to 0.0300 at the full budget; at a quarter of it 0.1000 with `pause`, 0.2000 to "
        "0.3000 with another.\n"
    )


def test_searches_without_other_pruners_are_not_compared() -> None:
    policies = {"gp, pause": {"regret": {"mean": [0.1, 0.02]}}}
    assert search_page.pruners_part({"lenet": {"policies": policies}}) == ""


def test_ideas_page_has_the_words_of_its_generator() -> None:
    text = (DOCS / "ideas.md").read_text()
    measured_on = text.partition("--report docs` (")[2].partition(").\n")[0]
    assert text.startswith(ideas.page_head(measured_on, 30))
    assert all(f"\n| {name} |" in text for name in ideas.IDEAS)


def test_no_idea_is_better_on_both_tables_at_every_budget() -> None:
    text = (DOCS / "ideas.md").read_text()
    rows = [re.findall(r"^\| (\w.*?) \|(.*)$", part, re.MULTILINE) for part in text.split("\n## ")[1:]]
    regrets = [
        {name: [float(mean) for mean in re.findall(r"([\d.]+) ±", cells)] for name, cells in table}
        for table in rows
    ]
    assert len(regrets) == 2
    for name in ideas.IDEAS.keys() - {"the default"}:
        pairs = (zip(table[name], table["the default"], strict=True) for table in regrets)
        assert any(regret >= default for pair in pairs for regret, default in pair), name


def test_every_idea_is_described() -> None:
    names = {name.rpartition(" ")[0] if name[-1].isdigit() else name for name in ideas.IDEAS}
    described = {name.removesuffix(" N").removesuffix(" P") for name in ideas.DESCRIPTIONS}
    assert names - {"the default"} == described


def test_ideas_patch_names_that_exist() -> None:
    for idea in ideas.IDEAS.values():
        for module, name, _ in idea.patches:
            assert hasattr(module, name)
