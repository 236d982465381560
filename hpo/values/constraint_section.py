"""The key `constraints` in the section `[space]` of a study file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal as Word

from hpo.values.conditions import Condition
from hpo.values.constraints import Comparison, Constraint
from hpo.values.domains import Choices, Domain, Range, Value
from hpo.values.expressions import (
    Expression,
    ExpressionError,
    Literal,
    Name,
    Negation,
    Operation,
    parse_comparisons,
)
from hpo.values.parameters import PARAMETERS, default_of
from hpo.values.wording import shortened, spelling_hint

MAX_CONSTRAINTS = 100

Kind = Word["number", "text", "boolean"]


class ConstraintError(ValueError):
    """An invalid constraint; the message has its text and the violated rule."""


def parse_constraints(raw: object, domains: Mapping[str, Domain]) -> tuple[Constraint, ...]:
    """Parse a list of constraints, or one, between the parameters of a space.

    A parameter of the registry that the space leaves out has its default. Raises `ConstraintError`.
    """
    entries = raw if isinstance(raw, list) else [raw]
    if len(entries) > MAX_CONSTRAINTS:
        raise ConstraintError(f"has {len(entries)} constraints; at most {MAX_CONSTRAINTS} are allowed")
    constraints: dict[str, Constraint] = {}
    for entry in entries:
        if not isinstance(entry, str):
            raise ConstraintError(f'{entry!r} is no text, such as "model.second <= model.first"')
        try:
            constraint = _constraint(entry, domains)
        except ExpressionError as error:
            raise ConstraintError(f"{shortened(entry)!r}: {error}") from error
        constraints[constraint.text] = constraint
    return tuple(constraints.values())


def _constraint(text: str, domains: Mapping[str, Domain]) -> Constraint:
    expressions, comparators = parse_comparisons(text)
    comparisons = [
        _comparison(left, comparator, right, domains)
        for left, comparator, right in zip(expressions, comparators, expressions[1:], strict=False)
    ]
    if not any(comparison.names for comparison in comparisons):
        raise ExpressionError("names no parameter of the space")
    rendered = [expression.render() for expression in expressions]
    words = [f" {comparator} {side}" for comparator, side in zip(comparators, rendered[1:], strict=True)]
    return Constraint(rendered[0] + "".join(words), tuple(comparisons))


def _comparison(
    left: Expression, comparator: str, right: Expression, domains: Mapping[str, Domain]
) -> Comparison:
    words = [*left.names(), *right.names()]
    for word in words:
        if word not in domains and word not in PARAMETERS:
            known = [*domains, *(name for name in PARAMETERS if name not in domains)]
            raise ExpressionError(f"unknown parameter {word!r}{spelling_hint(word, known)}")
        if word not in domains and PARAMETERS[word].default is None:
            raise ExpressionError(f"{word} has no default, so the space must have it")
    kinds = [_kind(side, domains) for side in (left, right)]
    if kinds[0] != kinds[1]:
        sides = f"{left.render()} with {right.render()}"
        raise ExpressionError(f"compares {sides}, a {kinds[0]} with a {kinds[1]}")
    if kinds[0] != "number" and comparator not in ("==", "!="):
        raise ExpressionError(f"compares {left.render()} by {comparator}; a {kinds[0]} has only == and !=")
    for side, other in ((left, right), (right, left)):
        _check_choice(side, other, domains)
    constants = {word: default_of(word) for word in words if word not in domains}
    when = tuple(condition for word in constants for condition in _requirements(word, domains))
    names = {word for word in words if word in domains} | {condition.parent for condition in when}
    return Comparison(left, comparator, right, frozenset(names), constants, when)


def _requirements(name: str, domains: Mapping[str, Domain]) -> Iterator[Condition]:
    """Yield the conditions on parameters of the space under which a parameter outside it has its default."""
    condition = PARAMETERS[name].when
    if condition is None:
        return
    if condition.parent in domains:
        yield condition
        return
    yield from _requirements(condition.parent, domains)
    if not condition.holds({condition.parent: default_of(condition.parent)}):
        raise ExpressionError(f"{name} never applies: it does only where {condition}")


def _kind(expression: Expression, domains: Mapping[str, Domain]) -> Kind:
    """Return the kind of an expression; the operands of an operator are numbers."""
    match expression:
        case Literal(value):
            return _kind_of(value)
        case Name(name):
            return _kind_of(_value(name, domains))
        case Negation(operand):
            operands: Sequence[Expression] = (operand,)
        case Operation(_, left, right):
            operands = (left, right)
    for operand in operands:
        if (kind := _kind(operand, domains)) != "number":
            raise ExpressionError(f"computes with {operand.render()}, a {kind}")
    return "number"


def _value(name: str, domains: Mapping[str, Domain]) -> Value:
    """Return one of the values of a parameter; all are of one kind."""
    if name not in domains:
        return default_of(name)
    domain = domains[name]
    return domain.low if isinstance(domain, Range) else domain.values[0]


def _kind_of(value: Value) -> Kind:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _check_choice(side: Expression, other: Expression, domains: Mapping[str, Domain]) -> None:
    """Refuse to compare a parameter with a text that it never has."""
    if isinstance(side, Name) and isinstance(other, Literal) and isinstance(other.value, str):
        domain = domains.get(side.name) or Choices((default_of(side.name),))
        if other.value not in domain:
            assert isinstance(domain, Choices), "texts are a list of choices"
            hint = spelling_hint(other.value, map(str, domain.values))
            raise ExpressionError(f"{side.name} is never {other.value!r}{hint}")
