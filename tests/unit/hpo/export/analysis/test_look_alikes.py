import pytest

from hpo.data.mnist import BY_CLASS, MERGED
from hpo.export.analysis.look_alikes import case_pairs, groups_of, one_shape_pairs


def titles(classes: str) -> list[str]:
    return [group.title for group in groups_of(tuple(classes))]


def test_case_pairs_of_by_class() -> None:
    assert len(case_pairs(BY_CLASS)) == 26
    assert [BY_CLASS[lower] for _upper, lower in one_shape_pairs(BY_CLASS)] == list(MERGED)


def test_letters_of_other_languages_are_paired() -> None:
    classes = ("я", "Я", "ß", "ẞ", "Ab", "ab", "1")
    assert case_pairs(classes) == ((1, 0), (3, 2))
    assert one_shape_pairs(classes) == ()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (
            BY_CLASS,
            [
                "letter case, one shape",
                "letter case, two shapes",
                "0/O/o, other than case",
                "1/I/i/l, other than case",
            ],
        ),
        ("0123456789", []),
        ("0OX", ["0/O"]),
        ("oO", ["letter case, one shape"]),
        ("aA", ["letter case, two shapes"]),
        ("il", ["i/l"]),
    ],
)
def test_groups_follow_from_the_names(classes: str, expected: list[str]) -> None:
    assert titles(classes) == expected
