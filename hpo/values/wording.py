"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """Return the number with the noun in its right form, as in "1 trial" and "2 trials"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
