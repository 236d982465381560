"""Words of messages."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SHOWN = 80
"""Characters that a message shows of a value."""


def counted(number: int, noun: str) -> str:
    """Return the number with the noun in its right form, as in "1 trial" and "2 trials"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Iterable[str], conjunction: str) -> str:
    """Return the words as a list, as in "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def spelling_hint(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the closest known word, or all of them."""
    known = list(known)
    matches = get_close_matches(word, known, n=1)
    if matches:
        return f"; did you mean {matches[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def shortened(text: str) -> str:
    """Return the text, cut off after `MAX_SHOWN` characters."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def duration_text(seconds: float) -> str:
    """Return a time for people, as in "45 s", "4 min" and "1.5 h"."""
    for unit, length in (("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        next_length = 86400.0 if unit == "h" else 60 * length
        if seconds < 0.995 * next_length:
            number = seconds / length
            digits = 1 if number < 2.95 and unit != "s" else 0
            return f"{number:.{digits}f}".removesuffix(".0") + f" {unit}"
    return f"{seconds / 86400:.1f}".removesuffix(".0") + " days"


def value_text(value: object) -> str:
    """Return the value of a parameter for people, a float with six digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def byte_text(size: float) -> str:
    """Return a number of bytes for people, as in "1.5 GiB"."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1000 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.3g} {units[0]}"
