"""Where values lie in the domains of their parameters."""

from math import log

from hpo.values.domains import Choices, Domain, Value, is_among
from hpo.values.wording import value_text


def position(value: Value, domain: Domain) -> float | None:
    """Return where a value lies, from 0 to 1: by its place in a list, and on the scale of a range.

    None for a value outside of the domain. 0.5 in a domain of one value.
    """
    if isinstance(domain, Choices):
        places = [place for place, choice in enumerate(domain.values) if is_among(value, (choice,))]
        if not places:
            return None
        return places[0] / (len(domain.values) - 1) if len(domain.values) > 1 else 0.5
    if isinstance(value, str | bool) or not domain.low <= value <= domain.high:
        return None
    if domain.low == domain.high:
        return 0.5
    low, high, at = (log(each) if domain.log else each for each in (domain.low, domain.high, value))
    return float((at - low) / (high - low))


def marks(domain: Domain, most: int = 6) -> list[tuple[float, str]]:
    """Return positions with the texts of their values: all of a short list, the ends of other domains."""
    if isinstance(domain, Choices):
        texts = list(map(value_text, domain.values))
        if len(texts) == 1:
            return [(0.5, texts[0])]
        places = [(index / (len(texts) - 1), text) for index, text in enumerate(texts)]
        return places if len(places) <= most else [places[0], places[-1]]
    if domain.low == domain.high:
        return [(0.5, value_text(domain.low))]
    return [(0.0, value_text(domain.low)), (1.0, value_text(domain.high))]


def is_varied(domain: Domain) -> bool:
    """Return whether a domain has more than one value."""
    return domain.size is None or domain.size > 1
