"""Arithmetic expressions over parameters, and the grammar of comparisons between them.

```
comparisons = sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)+
sum         = product (("+" | "-") product)*
product     = factor (("*" | "/") factor)*
factor      = "-" factor | number | name | text | "true" | "false" | "(" sum ")"
```

A name may have dots, as in `model.width`. Text stands in single or double quotes.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hpo.values.domains import Value
from hpo.values.wording import shortened

MAX_TOKENS = 100
MAX_DEPTH = 20
"""Limits of a constraint and of its nesting, so that parsing and computing stay quick and shallow."""

COMPARATORS = ("<=", ">=", "==", "!=", "<", ">")

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<operator><=|>=|==|!=|[-+*/<>()])
    )""",
    re.VERBOSE | re.ASCII,
)

_ARITHMETIC: Mapping[str, tuple[int, Callable[[float, float], float]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
}
"""Each operator with its precedence."""

_SIGN = 3


class ExpressionError(ValueError):
    """A text that is no comparison; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text or a boolean."""

    value: Value

    def evaluate(self, _params: Mapping[str, Value]) -> Value:
        """Return the value; a number as a float."""
        return self.value if isinstance(self.value, bool | str) else float(self.value)

    def names(self) -> Iterator[str]:
        """Yield the names of the parameters in the expression."""
        yield from ()

    def render(self, _precedence: int = 0) -> str:
        """Return the text, in brackets if operators around the expression bind closer than its own."""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if isinstance(self.value, str):
            quote = "'" if '"' in self.value else '"'
            return f"{quote}{self.value}{quote}"
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Name:
    """The value of a parameter."""

    name: str

    def evaluate(self, params: Mapping[str, Value]) -> Value:
        """Return the value; a number as a float."""
        value = params[self.name]
        return value if isinstance(value, bool | str) else float(value)

    def names(self) -> Iterator[str]:
        """Yield the name."""
        yield self.name

    def render(self, _precedence: int = 0) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True, slots=True)
class Negation:
    """The negative of a number."""

    operand: "Expression"

    def evaluate(self, params: Mapping[str, Value]) -> Value:
        """Return the value as a float."""
        return -_number(self.operand.evaluate(params))

    def names(self) -> Iterator[str]:
        """Yield the names of the parameters in the expression."""
        yield from self.operand.names()

    def render(self, _precedence: int = 0) -> str:
        """Return the text. No operator binds closer than the sign."""
        return f"-{self.operand.render(_SIGN)}"


@dataclass(frozen=True, slots=True)
class Operation:
    """A sum, difference, product or quotient of two numbers."""

    symbol: str
    left: "Expression"
    right: "Expression"

    def evaluate(self, params: Mapping[str, Value]) -> Value:
        """Return the value as a float. Raises `ZeroDivisionError`."""
        left, right = _number(self.left.evaluate(params)), _number(self.right.evaluate(params))
        return _ARITHMETIC[self.symbol][1](left, right)

    def names(self) -> Iterator[str]:
        """Yield the names of the parameters in the expression."""
        yield from self.left.names()
        yield from self.right.names()

    def render(self, precedence: int = 0) -> str:
        """Return the text, in brackets if operators around the expression bind closer than its own."""
        own = _ARITHMETIC[self.symbol][0]
        text = f"{self.left.render(own)} {self.symbol} {self.right.render(own + 1)}"
        return f"({text})" if precedence > own else text


Expression = Literal | Name | Negation | Operation


def parse_comparisons(text: str) -> tuple[list[Expression], list[str]]:
    """Return the expressions of a chain of comparisons, and the comparators between them.

    Raises `ExpressionError`.
    """
    return _Parser(text).comparisons()


def _number(value: Value) -> float:
    assert isinstance(value, float), "the operands of an operator are numbers"
    return value


class _Parser:
    """A recursive descent over the tokens of a text."""

    def __init__(self, text: str) -> None:
        """Split the text into tokens of kind, text and column. The last has no text."""
        self._tokens: list[tuple[str, str, int]] = []
        self._place, self._depth = 0, 0
        start = 0
        while text[start:].strip():
            column = len(text) - len(text[start:].lstrip()) + 1
            if not (match := _TOKEN.match(text, start)):
                raise ExpressionError(f"cannot read {text[column - 1]!r} at column {column}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind], column))
            start = match.end()
            if len(self._tokens) > MAX_TOKENS:
                raise ExpressionError(f"has more than {MAX_TOKENS} names, numbers and operators")
        self._tokens.append(("end", "", len(text) + 1))

    def comparisons(self) -> tuple[list[Expression], list[str]]:
        expressions, comparators = [self._sum()], list[str]()
        while self._next in COMPARATORS:
            comparators.append(self._take())
            expressions.append(self._sum())
        if self._next or not comparators:
            raise self._unexpected("a comparison such as <=" if not comparators else "the end")
        return expressions, comparators

    @property
    def _next(self) -> str:
        """The text of the next token; a text in quotes is none of the operators."""
        return self._tokens[self._place][1]

    def _take(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1][1]

    def _sum(self) -> Expression:
        return self._operations(("+", "-"), lambda: self._operations(("*", "/"), self._factor))

    def _operations(self, symbols: tuple[str, ...], operand: Callable[[], Expression]) -> Expression:
        expression = operand()
        while self._next in symbols:
            symbol = self._take()
            expression = Operation(symbol, expression, operand())
        return expression

    def _factor(self) -> Expression:
        kind, word, column = self._tokens[self._place]
        if word not in ("-", "(") and kind in ("operator", "end"):
            raise self._unexpected("a name, a number or a text in quotes")
        self._place += 1
        if kind == "operator":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise ExpressionError(f"is nested more than {MAX_DEPTH} deep at column {column}")
            expression = Negation(self._factor()) if word == "-" else self._bracket()
            self._depth -= 1
            return expression
        if kind == "number":
            return _literal(word, column)
        if kind == "text":
            return Literal(word[1:-1])
        return Literal(word == "true") if word in ("true", "false") else Name(word)

    def _bracket(self) -> Expression:
        expression = self._sum()
        if self._next != ")":
            raise self._unexpected("')'")
        self._place += 1
        return expression

    def _unexpected(self, expected: str) -> ExpressionError:
        _, word, column = self._tokens[self._place]
        found = repr(word) if word else "the end"
        return ExpressionError(f"expected {expected}, not {found}, at column {column}")


def _literal(word: str, column: int) -> Literal:
    try:
        value = int(word) if re.fullmatch(r"[\d_]+", word) else float(word)
        is_finite = math.isfinite(float(word))
    except ValueError:  # an underscore in the wrong place
        raise ExpressionError(f"cannot read {shortened(word)!r} at column {column}") from None
    if not is_finite:
        raise ExpressionError(f"{shortened(word)} at column {column} is too large")
    return Literal(value)
