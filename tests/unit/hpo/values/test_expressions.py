"""The grammar of constraints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.values.expressions import (
    MAX_DEPTH,
    MAX_TOKENS,
    Expression,
    ExpressionError,
    Literal,
    Name,
    Negation,
    Operation,
    parse_comparisons,
)

LEAVES: st.SearchStrategy[Expression] = st.one_of(
    st.sampled_from(["lr", "model.width", "a_1.b"]).map(Name),
    st.one_of(st.integers(0, 2**60), st.floats(0, 1e300)).map(Literal),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(Negation) | st.builds(Operation, st.sampled_from(["+", "-", "*", "/"]), inner, inner)
    ),
    max_leaves=12,
)


@given(EXPRESSIONS, EXPRESSIONS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_rendered_expression_is_parsed_back(left: Expression, right: Expression, comparator: str) -> None:
    text = f"{left.render()} {comparator} {right.render()}"
    assert parse_comparisons(text) == ([left, right], [comparator])


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("a+b*c", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b-c)", "a - (b - c)"),
        ("(a-b)-c", "a - b - c"),
        ("a/(b*c)", "a / (b * c)"),
        ("--a", "--a"),
        ("-(a+b)", "-(a + b)"),
        ("a*-b", "a * -b"),
        ("1e-3", "0.001"),
        ("1_000", "1000"),
        (".5", "0.5"),
        ("model.width", "model.width"),
        ('"re\'lu"', '"re\'lu"'),
        ("'re\"lu'", "'re\"lu'"),
        ("true", "true"),
    ],
)
def test_text_is_rendered_without_needless_brackets(text: str, rendered: str) -> None:
    (expression, zero), comparators = parse_comparisons(f"{text}==0")
    assert (expression.render(), zero, comparators) == (rendered, Literal(0), ["=="])


def test_comparisons_form_a_chain() -> None:
    assert parse_comparisons("1 < a<=b") == ([Literal(1), Name("a"), Name("b")], ["<", "<="])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 + 2 * 3", 7.0), ("(1 + 2) * 3", 9.0), ("7 - 2 - 1", 4.0), ("8 / 4 / 2", 1.0), ("-a * 2", -6.0)],
)
def test_value_of_an_expression(text: str, value: float) -> None:
    (expression, _), _ = parse_comparisons(f"{text} > 0")
    assert expression.evaluate({"a": 3}) == value


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "expected a name, a number or a text in quotes, not the end, at column 1"),
        ("a", "expected a comparison such as <=, not the end, at column 2"),
        ("a <", "expected a name, a number or a text in quotes, not the end, at column 4"),
        ("a ** 2 < 1", "expected a name, a number or a text in quotes, not '*', at column 4"),
        ("a(1) < 1", "expected a comparison such as <=, not '(', at column 2"),
        ("a[1] < 1", "cannot read '[' at column 2"),
        ("a < b and c < d", "expected the end, not 'and', at column 7"),
        ("a = b", "cannot read '=' at column 3"),
        ("(a < b", "expected ')', not '<', at column 4"),
        ("a < b)", "expected the end, not ')', at column 6"),
        ("a. b < 1", "cannot read '.' at column 2"),
        ("a < 'b", 'cannot read "\'" at column 5'),
        ("a < 1x", "cannot read '1' at column 5"),
        ("a < 1__0", "cannot read '1__0' at column 5"),
        ("a < 1e999", "1e999 at column 5 is too large"),
        ("a < " + "9" * 400, f"{'9' * 80}... at column 5 is too large"),
        ("ä < 1", "cannot read 'ä' at column 1"),
        ("a\n<\n\n$", "cannot read '$' at column 6"),
        ("lambda: 0 < 1", "cannot read ':' at column 7"),
        (f"{'(' * 30}a{')' * 30} < 1", f"is nested more than {MAX_DEPTH} deep at column 21"),
        (f"{'+'.join('a' * 60)} < 1", f"has more than {MAX_TOKENS} names, numbers and operators"),
    ],
)
def test_what_is_no_comparison_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_comparisons(text)
    assert str(caught.value) == rule


@given(st.text(alphabet="ab.1e+-*/<>=!()'\" \t_", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        expressions, _ = parse_comparisons(text)
    except ExpressionError:
        return
    assert len(expressions) > 1
