"""The key `constraints` in the section `[space]` of a study file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from hpo.values.parameters import BUILT_IN
from hpo.values.vocabulary import Vocabulary
from hpo.values.wording import shortened, spelling_hint

MAX_CONSTRAINTS = 100

Kind = Word["number", "text", "boolean"]


class ConstraintError(ValueError):
    """An invalid constraint; the message has its text and the violated rule."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The parameters that a constraint may name: those of the space, and known ones with their defaults."""

    domains: Mapping[str, Domain]
    vocabulary: Vocabulary

    def domain_of(self, name: str) -> Domain:
        """Return the domain of a parameter; the default is the only value if the space leaves it out."""
        return self.domains[name] if name in self.domains else Choices((self.default_of(name),))

    def default_of(self, name: str) -> Value:
        """Return the default of a parameter that the space leaves out. It has one, see `check`."""
        default = self.vocabulary.default_of(name)
        assert default is not None, "a constraint names no parameter without a value"
        return default

    def check(self, name: str) -> None:
        """Raise `ExpressionError` for a name without a value."""
        if name in self.domains:
            return
        known = self.vocabulary.parameters
        if name not in known:
            others = [*self.domains, *(other for other in known if other not in self.domains)]
            raise ExpressionError(f"unknown parameter {name!r}{spelling_hint(name, others)}")
        if self.vocabulary.default_of(name) is None:
            raise ExpressionError(f"{name} has no default, so the space must have it")


def parse_constraints(
    raw: object, domains: Mapping[str, Domain], vocabulary: Vocabulary = BUILT_IN
) -> tuple[Constraint, ...]:
    """Parse a list of constraints, or one, between the parameters of a space.

    A known parameter that the space leaves out has its default. Raises `ConstraintError`.
    """
    scope = _Scope(domains, vocabulary)
    entries = raw if isinstance(raw, list) else [raw]
    if len(entries) > MAX_CONSTRAINTS:
        raise ConstraintError(f"has {len(entries)} constraints; at most {MAX_CONSTRAINTS} are allowed")
    constraints: dict[str, Constraint] = {}
    for entry in entries:
        if not isinstance(entry, str):
            raise ConstraintError(f'{entry!r} is no text, such as "model.second <= model.first"')
        try:
            constraint = _constraint(entry, scope)
        except ExpressionError as error:
            raise ConstraintError(f"{shortened(entry)!r}: {error}") from error
        constraints[constraint.text] = constraint
    return tuple(constraints.values())


def _constraint(text: str, scope: _Scope) -> Constraint:
    expressions, comparators = parse_comparisons(text)
    comparisons = [
        _comparison(left, comparator, right, scope)
        for left, comparator, right in zip(expressions, comparators, expressions[1:], strict=False)
    ]
    if not any(comparison.names for comparison in comparisons):
        raise ExpressionError("names no parameter of the space")
    rendered = [expression.render() for expression in expressions]
    words = [f" {comparator} {side}" for comparator, side in zip(comparators, rendered[1:], strict=True)]
    return Constraint(rendered[0] + "".join(words), tuple(comparisons))


def _comparison(left: Expression, comparator: str, right: Expression, scope: _Scope) -> Comparison:
    domains, words = scope.domains, [*left.names(), *right.names()]
    for word in words:
        scope.check(word)
    kinds = [_kind(side, scope) for side in (left, right)]
    if kinds[0] != kinds[1]:
        sides = f"{left.render()} with {right.render()}"
        raise ExpressionError(f"compares {sides}, a {kinds[0]} with a {kinds[1]}")
    if kinds[0] != "number" and comparator not in ("==", "!="):
        raise ExpressionError(f"compares {left.render()} by {comparator}; a {kinds[0]} has only == and !=")
    for side, other in ((left, right), (right, left)):
        _check_choice(side, other, scope)
    constants = {word: scope.default_of(word) for word in words if word not in domains}
    when = tuple(condition for word in constants for condition in _requirements(word, scope))
    names = {word for word in words if word in domains} | {condition.parent for condition in when}
    return Comparison(left, comparator, right, frozenset(names), constants, when)


def _requirements(name: str, scope: _Scope) -> Iterator[Condition]:
    """Yield the conditions on parameters of the space under which a parameter outside it has its default."""
    condition = scope.vocabulary.condition_of(name)
    if condition is None:
        return
    if condition.parent in scope.domains:
        yield condition
        return
    yield from _requirements(condition.parent, scope)
    if not condition.holds({condition.parent: scope.default_of(condition.parent)}):
        raise ExpressionError(f"{name} never applies: it does only where {condition}")


def _kind(expression: Expression, scope: _Scope) -> Kind:
    """Return the kind of an expression; the operands of an operator are numbers."""
    match expression:
        case Literal(value):
            return _kind_of(value)
        case Name(name):
            return _kind_of(_value(name, scope))
        case Negation(operand):
            operands: Sequence[Expression] = (operand,)
        case Operation(_, left, right):
            operands = (left, right)
    for operand in operands:
        if (kind := _kind(operand, scope)) != "number":
            raise ExpressionError(f"computes with {operand.render()}, a {kind}")
    return "number"


def _value(name: str, scope: _Scope) -> Value:
    """Return one of the values of a parameter; all are of one kind."""
    domain = scope.domain_of(name)
    return domain.low if isinstance(domain, Range) else domain.values[0]


def _kind_of(value: Value) -> Kind:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _check_choice(side: Expression, other: Expression, scope: _Scope) -> None:
    """Refuse to compare a parameter with a text that it never has."""
    if isinstance(side, Name) and isinstance(other, Literal) and isinstance(other.value, str):
        domain = scope.domain_of(side.name)
        if other.value not in domain:
            assert isinstance(domain, Choices), "texts are a list of choices"
            hint = spelling_hint(other.value, map(str, domain.values))
            raise ExpressionError(f"{side.name} is never {other.value!r}{hint}")
