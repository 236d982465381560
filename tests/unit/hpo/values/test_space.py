import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.values.free import FREE
from hpo.values.parameters import BUILT_IN
from hpo.values.space import Choices, Condition, Domain, Point, Range, SearchSpace, cell
from hpo.values.vocabulary import Vocabulary

SPACE = SearchSpace(
    {
        "lr": Choices((0.001, 0.01, 0.1)),
        "batch_size": Range(16, 64, step=16, integer=True),
        "momentum": Range(0.0, 0.75, step=0.25),
    }
)
NAMES = ("lr", "batch_size", "momentum", "weight_decay")


def thousandths(low: int, high: int) -> st.SearchStrategy[float]:
    """Decimals as people write them: the floats that make sums inexact."""
    return st.integers(low, high).map(lambda n: n / 1000)


@st.composite
def stepped(draw: st.DrawFn) -> Range:
    low, step, count = draw(st.integers(0, 999)), draw(st.integers(1, 300)), draw(st.integers(1, 40))
    return Range(low / 1000, (low + step * count) / 1000, step=step / 1000)


@st.composite
def whole(draw: st.DrawFn) -> Range:
    low, step, count = draw(st.integers(1, 99)), draw(st.integers(1, 9)), draw(st.integers(1, 40))
    log = draw(st.booleans())
    if log or (step == 1 and draw(st.booleans())):
        return Range(low, low + count, log=log, integer=True)
    return Range(low, low + step * count, step=step, integer=True)


@st.composite
def continuous(draw: st.DrawFn) -> Range:
    low = draw(thousandths(1, 999))
    return Range(low, low + draw(thousandths(1, 5000)), log=draw(st.booleans()))


CHOICES = st.lists(thousandths(0, 5000), min_size=1, max_size=5, unique=True).map(lambda v: Choices(tuple(v)))
COUNTABLE: st.SearchStrategy[Domain] = CHOICES | stepped() | whole()
DOMAIN: st.SearchStrategy[Domain] = COUNTABLE | continuous()
SEED = st.integers(0, 2**32 - 1)


def spaces(domain: st.SearchStrategy[Domain]) -> st.SearchStrategy[SearchSpace]:
    return st.lists(domain, min_size=1, max_size=4).map(
        lambda domains: SearchSpace(dict(zip(NAMES, domains, strict=False)))
    )


@given(DOMAIN, SEED)
def test_drawn_value_lies_in_the_domain(domain: Domain, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert all(domain.draw(rng) in domain for _ in range(20))


@given(COUNTABLE)
def test_values_of_a_countable_domain_are_distinct_members(domain: Domain) -> None:
    assert domain.size is not None
    values = [domain.at(index) for index in range(domain.size)]
    assert len(set(values)) == domain.size
    assert all(value in domain for value in values)


@given(stepped() | whole())
def test_countable_range_spans_low_to_high(domain: Range) -> None:
    assert domain.size is not None
    assert domain.at(0) == domain.low
    assert domain.at(domain.size - 1) == pytest.approx(domain.high)


@given(stepped())
def test_value_between_two_steps_is_outside(domain: Range) -> None:
    assert domain.step is not None
    assert domain.low + domain.step / 2 not in domain


def test_last_value_of_a_range_is_clipped_to_high() -> None:
    tenths = Range(0.1, 0.3, step=0.1)
    assert [tenths.at(index) for index in range(3)] == [0.1, 0.2, 0.3]
    assert 0.1 + 2 * 0.1 > 0.3


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        (Choices((0.5,)), 1),
        (Choices((1, 2, 4)), 3),
        (Range(2, 9, integer=True), 8),
        (Range(2, 9, log=True, integer=True), 8),
        (Range(16, 64, step=16, integer=True), 4),
        (Range(0.0, 0.9, step=0.3), 4),
        (Range(0.0, 0.9), None),
        (Range(0.1, 0.9, log=True), None),
    ],
)
def test_domain_size(domain: Domain, size: int | None) -> None:
    assert domain.size == size


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (Choices((1, 2, 4)), 3),
        (Range(0.1, 0.9), 0.0999),
        (Range(0.1, 0.9), 0.9001),
        (Range(0.1, 0.9), math.nan),
        (Range(2, 9, integer=True), 2.5),
        (Range(2, 9, integer=True), 10),
        (Range(16, 64, step=16, integer=True), 24),
    ],
)
def test_value_outside_the_domain(domain: Domain, value: float) -> None:
    assert value not in domain


def test_membership_ignores_the_number_type() -> None:
    assert 16.0 in Range(16, 64, integer=True)
    assert 16.0 in Choices((16, 32))


def test_log_range_is_uniform_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    draws = [Range(1e-4, 1.0, log=True).draw(rng) for _ in range(4000)]
    decades = Counter(math.floor(math.log10(value)) for value in draws)
    assert decades.keys() == {-4, -3, -2, -1}
    assert all(abs(count - 1000) < 100 for count in decades.values())


def test_integer_log_range_draws_both_ends_in_full() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(Range(1, 4, log=True, integer=True).draw(rng) for _ in range(4000))
    for value, count in counts.items():
        share = math.log((value + 0.5) / (value - 0.5)) / math.log(4.5 / 0.5)
        assert abs(count / 4000 - share) < 0.03
    assert counts.keys() == {1, 2, 3, 4}


def test_integer_range_draws_integers() -> None:
    rng = np.random.default_rng(0)
    for domain in (Range(2, 9, integer=True), Range(2, 9, log=True, integer=True)):
        assert {type(domain.draw(rng)) for _ in range(50)} == {int}


@given(spaces(COUNTABLE))
def test_number_of_cells_is_the_product_of_domain_sizes(space: SearchSpace) -> None:
    sizes = [domain.size for domain in space.domains.values()]
    assert space.cells == math.prod(size for size in sizes if size is not None)


@given(spaces(DOMAIN), continuous())
def test_space_with_a_continuous_domain_has_no_cells(space: SearchSpace, domain: Range) -> None:
    assert SearchSpace({**space.domains, "weight_decay": domain}).cells is None


def test_point_at_enumerates_all_cells_last_parameter_fastest() -> None:
    assert SPACE.cells == 48
    points = [SPACE.point_at(index) for index in range(48)]
    assert len({cell(point) for point in points}) == 48
    assert all(point in SPACE for point in points)
    assert points[0] == {"lr": 0.001, "batch_size": 16, "momentum": 0.0}
    assert points[1] == {"lr": 0.001, "batch_size": 16, "momentum": 0.25}
    assert points[4] == {"lr": 0.001, "batch_size": 32, "momentum": 0.0}
    assert points[47] == {"lr": 0.1, "batch_size": 64, "momentum": 0.75}


@given(spaces(DOMAIN), SEED)
def test_drawn_point_lies_in_the_space_and_depends_on_the_seed(space: SearchSpace, seed: int) -> None:
    point = space.draw(np.random.default_rng(seed))
    assert point in space
    assert list(point) == list(space.domains)
    assert point == space.draw(np.random.default_rng(seed))


@pytest.mark.parametrize(
    "point",
    [
        {},
        {"lr": 0.01, "batch_size": 16},
        {"lr": 0.01, "batch_size": 16, "momentum": 0.25, "clip": 1.0},
        {"lr": 0.02, "batch_size": 16, "momentum": 0.25},
        {"lr": 0.01, "batch_size": 20, "momentum": 0.25},
    ],
)
def test_point_outside_the_space(point: dict[str, float]) -> None:
    assert point not in SPACE


def test_cell_depends_on_names_and_values_only() -> None:
    assert cell({"lr": 1, "batch_size": 16}) == cell({"batch_size": 16.0, "lr": 1.0})
    assert cell({"lr": 1, "batch_size": 16}) != cell({"lr": 16, "batch_size": 1})
    assert cell({"lr": 1}) != cell({"lr": 1, "momentum": 0})


CONDITIONAL = SearchSpace(
    {
        "lr": Choices((0.1, 0.2)),
        "rule": Choices(("plain", "heavy", "odd")),
        "momentum": Choices((0.0, 0.5, 0.9)),
        "nesterov": Choices((True, False)),
    },
    {"momentum": (Condition("rule", ("heavy", "odd")),), "nesterov": (Condition("momentum", (0.5, 0.9)),)},
)


def test_cells_of_a_conditional_space_are_the_distinct_points() -> None:
    # plain: 2; heavy and odd: 2 * (momentum 0.0: 1, otherwise 2 * 2)
    assert CONDITIONAL.cells == 2 + 2 * 2 * (1 + 2 * 2)
    points = [CONDITIONAL.point_at(index) for index in range(CONDITIONAL.cells)]
    assert len({cell(point) for point in points}) == CONDITIONAL.cells
    assert all(point in CONDITIONAL for point in points)
    assert {"lr": 0.1, "rule": "plain"} in points
    assert {"lr": 0.1, "rule": "odd", "momentum": 0.0} in points


@given(SEED)
def test_drawn_point_has_only_parameters_that_apply(seed: int) -> None:
    point = CONDITIONAL.draw(np.random.default_rng(seed))
    assert point in CONDITIONAL
    assert ("momentum" in point) == (point["rule"] != "plain")
    assert ("nesterov" in point) == (point.get("momentum", 0) > 0)


@pytest.mark.parametrize(
    "point",
    [
        {"lr": 0.1, "rule": "plain", "momentum": 0.5, "nesterov": True},
        {"lr": 0.1, "rule": "heavy"},
        {"lr": 0.1, "rule": "heavy", "momentum": 0.5},
        {"lr": 0.1, "rule": "heavy", "momentum": 0.5, "nesterov": 1},
        {"lr": 0.1, "rule": "other"},
    ],
)
def test_point_with_other_parameters_than_apply_is_outside(point: Point) -> None:
    assert point not in CONDITIONAL


def test_conditions_may_name_a_later_parameter() -> None:
    space = SearchSpace(
        {"momentum": Choices((0.0, 0.9)), "rule": Choices(("plain", "heavy"))},
        {"momentum": (Condition("rule", ("heavy",)),)},
    )
    points = [space.point_at(index) for index in range(space.cells or 0)]
    assert points == [
        {"rule": "plain"},
        {"momentum": 0.0, "rule": "heavy"},
        {"momentum": 0.9, "rule": "heavy"},
    ]


def test_cells_tell_text_numbers_and_switches_apart() -> None:
    assert cell({"rule": "1"}) != cell({"rule": 1})
    assert cell({"rule": "plain"}) == cell({"rule": "plain"})
    assert True not in Choices((0, 1))
    assert 1 in Choices((0.0, 1.0))


@pytest.mark.parametrize("vocabulary", [BUILT_IN, FREE], ids=["built-in", "free"])
def test_space_goes_to_another_process(vocabulary: Vocabulary) -> None:
    space = SearchSpace({"lr": Choices((0.1, 0.2))}, vocabulary=vocabulary)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        returned = processes.submit(replace, space).result()
    assert returned == space
    assert returned.vocabulary is vocabulary
