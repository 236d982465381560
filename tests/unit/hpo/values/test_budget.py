"""The augmentation of a trial: what is searched wins over the section, strength by strength."""

from hpo.values.budget import Augmentation

ALL = ("rotation", "shift", "scaling", "shear")
SECTION = Augmentation(rotation=10, shift=0.1, scale=(0.9, 1.2), shear=3)


def test_each_searched_strength_replaces_that_of_the_section() -> None:
    assert Augmentation.of({"rotation": 20.0}, ["rotation"], SECTION) == Augmentation(20, 0.1, (0.9, 1.2), 3)
    assert Augmentation.of({"scaling": 0.25}, ["scaling"], SECTION) == Augmentation(10, 0.1, (0.75, 1.25), 3)
    assert Augmentation.of({"shift": 0.0, "shear": 0.0}, ALL, SECTION) == Augmentation(10, 0, (0.9, 1.2), 0)


def test_search_has_the_searched_strengths_alone() -> None:
    assert Augmentation.of({"shear": 5.0}, ["shear"], None) == Augmentation(shear=5)
    assert Augmentation.of({"shear": 0.0, "scaling": 0.0}, ALL, None) is None


def test_strength_that_is_not_searched_or_does_not_apply_is_that_of_the_section() -> None:
    assert Augmentation.of({"rotation": 20.0}, [], SECTION) is SECTION
    assert Augmentation.of({}, ALL, SECTION) is SECTION
    assert Augmentation.of({}, ALL, None) is None
