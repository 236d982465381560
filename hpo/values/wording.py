"""Words of messages."""

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Return the number with the noun in its right form, as in "1 trial" and "2 trials"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Iterable[str], conjunction: str) -> str:
    """Return the words as a list, as in "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
