"""Classes that look alike, found from their names: two cases of a letter, 0/O/o, and 1/I/i/l."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.data.mnist import MERGED

Sets = tuple[tuple[int, ...], ...]

ZERO = "0Oo"
ONE = "1Iil"


@dataclass(frozen=True, slots=True)
class Group:
    """A reason for errors. `sets`: disjoint sets of classes by index; classes of one set look alike."""

    title: str
    sets: Sets


def case_pairs(classes: Sequence[str]) -> Sets:
    """Return the letters that have a class in each case, as pairs (upper, lower) of indices."""
    index = {name: number for number, name in enumerate(classes)}
    return tuple(
        (number, index[name.lower()])
        for name, number in index.items()
        if len(name) == 1 and name != name.lower() and name.lower() in index
    )


def one_shape_pairs(classes: Sequence[str]) -> Sets:
    """Return the case pairs whose two cases have one shape, as C and c: the merged letters of EMNIST."""
    return tuple(pair for pair in case_pairs(classes) if classes[pair[1]] in MERGED)


def present(classes: Sequence[str], letters: str) -> tuple[int, ...]:
    """Return the indices of the classes that are one of `letters`.

    Empty unless there are two of them that differ by more than case.
    """
    if "l" in letters and "l" not in classes and "L" not in letters:
        letters += "L"  # the capital stands for both cases
    found = tuple(classes.index(letter) for letter in letters if letter in classes)
    return found if len({classes[index].lower() for index in found}) > 1 else ()


def groups_of(classes: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups that these classes have. An error belongs to the first group that explains it."""
    same = one_shape_pairs(classes)
    other = tuple(pair for pair in case_pairs(classes) if pair not in same)
    groups = [
        Group("letter case, one shape", same),
        Group("letter case, two shapes", other),
    ]
    for letters in (ZERO, ONE):
        found = present(classes, letters)
        beyond = ", other than case" if _has_pair(found, case_pairs(classes)) else ""
        groups.append(Group("/".join(classes[i] for i in found) + beyond, (found,) if found else ()))
    return tuple(group for group in groups if group.sets)


def _has_pair(found: Iterable[int], pairs: Sets) -> bool:
    members = set(found)
    return any(members.issuperset(pair) for pair in pairs)
