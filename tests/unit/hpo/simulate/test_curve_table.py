import gzip
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import InputError
from hpo.simulate.curve_table import COLUMNS, CurveTable, Measured, Reported, Run, read, write
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.free import FREE
from hpo.values.objective import Objective
from hpo.values.parameters import PARAMETERS, Kind
from hpo.values.space import Choices, Point, Range, SearchSpace, Value, cell
from hpo.values.space_section import parse_space

SPACE = SearchSpace({"lr": Choices((0.01, 0.1)), "batch_size": Choices((16, 32))})
SLOW, FAST = {"lr": 0.01, "batch_size": 16}, {"lr": 0.1, "batch_size": 16}
KINDS: tuple[tuple[Kind, Value], ...] = (("text", "sgd"), ("boolean", False))
HEADER = ",".join(["lr", "batch_size", "seed", "epoch", *COLUMNS])


def run(*losses: float) -> Run:
    return tuple(Measured(loss / 2, loss, 0.5, 1.5, 0.25) for loss in losses)


def table(**runs: list[Run]) -> CurveTable:
    """Four cells: two as `slow` and `fast` say, two with a loss of 3 and 4 in their last epoch."""
    points = [SPACE.point_at(index) for index in range(4)]
    default = {0: [run(6.0, 5.0)], 1: [run(5.0, 4.0)], 2: [run(4.0, 1.0)], 3: [run(4.0, 3.0)]}
    default |= {{"slow": 0, "fast": 2}[name]: cell_runs for name, cell_runs in runs.items()}
    count = max(len(cell_runs) for cell_runs in default.values())
    return CurveTable(
        ("lr", "batch_size"), {cell(p): tuple((default[i] * count)[:count]) for i, p in enumerate(points)}
    )


def test_table_is_read_back_as_written(tmp_path: Path) -> None:
    made = table(fast=[run(4.0, 1.0), run(4.0, math.inf)])
    write(tmp_path / "table.csv.gz", made, ["how it was made", "where"])
    stored = read(tmp_path / "table.csv.gz")
    assert stored.parameters == made.parameters
    assert stored.runs == made.runs
    assert stored.epochs == 2


def test_same_table_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, table(), ["comment"])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_seed_selects_a_run() -> None:
    first, second = run(4.0, 1.0), run(4.0, 2.0)
    made = table(fast=[first, second])
    assert [made.run(FAST, seed) for seed in (0, 1, 2, 7)] == [first, second, first, second]
    with pytest.raises(KeyError):
        made.run({**FAST, "lr": 0.5}, 0)


def test_loss_is_the_mean_over_the_seeds() -> None:
    assert table(fast=[run(4.0, 1.0), run(4.0, 2.0)]).cost(FAST, 2) == 1.5


def test_diverged_run_counts_with_the_largest_loss() -> None:
    made = table(fast=[run(4.0, 1.0), run(math.nan)], slow=[run(6.0, 5.0), run(6.0, 7.0)])
    assert made.cost(FAST, 2) == (1.0 + 7.0) / 2
    assert made.cost(FAST, 1) == (4.0 + 6.0) / 2
    assert made.epochs == 2


def test_regret_is_0_for_the_best_and_1_for_the_median() -> None:
    made = table()  # losses 5, 4, 1, 3
    assert made.regret(FAST, 2) == 0
    assert made.best(2) == 1.0
    assert made.median(2) == 3.5
    assert made.regret(SLOW, 2) == pytest.approx((5 - 1) / (3.5 - 1))


def test_table_covers_its_own_space() -> None:
    table().check(SPACE, 2, "study.toml")


@pytest.mark.parametrize(
    ("space", "epochs", "rule"),
    [
        (SPACE, 3, "study.toml: search.epochs = 3: the table has 2"),
        (
            SearchSpace({**SPACE.domains, "lr": Choices((0.1, 0.5))}),
            2,
            "study.toml: space: 2 of 4 cells are not in the table, the first: lr = 0.5, batch_size = 16",
        ),
        (
            SearchSpace({**SPACE.domains, "lr": Range(0.01, 0.1)}),
            2,
            "study.toml: space: a table has an answer for finite spaces only",
        ),
    ],
)
def test_other_space_is_refused(space: SearchSpace, epochs: int, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        table().check(space, epochs, "study.toml")
    assert str(caught.value) == rule


def test_parameter_that_is_left_out_has_its_default() -> None:
    made = table()
    decay = PARAMETERS["weight_decay"].default
    assert made.run({**FAST, "weight_decay": decay}, 0) == made.run(FAST, 0)
    with pytest.raises(KeyError):
        made.run({**FAST, "weight_decay": 0.5}, 0)


def test_values_of_any_kind_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = PARAMETERS["lr"]
    text, boolean = (replace(number, kind=kind, default=default) for kind, default in KINDS)
    monkeypatch.setitem(PARAMETERS, "optimizer", text)
    monkeypatch.setitem(PARAMETERS, "nesterov", boolean)
    points: list[Point] = [
        {"optimizer": "adam w", "lr": 0.1},
        {"optimizer": "sgd", "lr": 0.1, "nesterov": True},
        {"optimizer": "sgd", "lr": 0.1, "nesterov": False},
    ]
    names = ("optimizer", "lr", "nesterov")
    made = CurveTable(names, {cell(point): (run(float(index)),) for index, point in enumerate(points)})
    write(tmp_path / "table.csv.gz", made, [])
    stored = read(tmp_path / "table.csv.gz")
    assert stored.runs == made.runs
    assert [stored.run(point, 0)[0].metrics[VALIDATION_LOSS] for point in points[1:]] == [1.0, 2.0]
    space = SearchSpace({"optimizer": Choices(("sgd", "lion")), "nesterov": Choices((True,))})
    with pytest.raises(InputError, match=r"the first: optimizer = sgd, nesterov = true$"):
        stored.check(space, 1, "study.toml")


ROW = "0.1,16,0,{epoch},1,2,0.5,1,0.1"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda lines: [*lines, ROW.format(epoch="x")], "line 4: epoch = 'x': must be a number"),
        (lambda lines: [*lines, ROW.format(epoch=3)], "line 4: epoch = 3: the next of this run is 2"),
        (lambda lines: [*lines, "0.1,16,0,2"], "line 4: train_loss = None: must be a number"),
        (
            lambda lines: [lines[0].replace("seed", "seeds"), *lines[1:]],
            "line 2: the column 'seed' is missing",
        ),
        (lambda lines: lines[:1], "the table has no rows"),
        (lambda _lines: [], "line 2: the column 'seed' is missing"),
        (lambda lines: [*lines, "0.5,16,0,1,1,2,0.5,1,0.1", "0.5,16,1,1,1,2,0.5,1,0.1"], "1 runs, others 2"),
    ],
)
def test_damaged_table_is_refused(
    change: Callable[[list[str]], list[str]], rule: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv.gz"
    lines = ["# comment", *change([HEADER, ROW.format(epoch=1)])]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(rule)


def test_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    text, half = tmp_path / "text", tmp_path / "half"
    text.write_text("lr,batch_size")
    half.write_bytes(gzip.compress(b"lr" * 1000)[:20])
    for path in (text, half, tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=str(path)) as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1


def test_keywords_of_the_network_are_read_back_by_their_values(tmp_path: Path) -> None:
    points: list[Point] = [
        {"model.act": "relu", "model.bias": True, "model.width": 1234567.0},
        {"model.act": "3", "model.bias": False, "model.width": 16.0, "model.rate": 0.1},
    ]
    names = ("model.act", "model.bias", "model.rate", "model.width")
    made = CurveTable(names, {cell(point): (run(float(index)),) for index, point in enumerate(points)})
    write(tmp_path / "table.csv.gz", made, [])
    assert read(tmp_path / "table.csv.gz").runs == made.runs


FREE_TABLE = """# how it was made
optimizer,momentum,seed,epoch,accuracy,loss
lion,0.5,0,1,0.5,-1
lion,0.5,0,2,0.75,-2
adamw,,0,1,0.25,-0.5
adamw,,0,2,0.5,-0.75
"""


def test_table_of_free_parameters_has_any_metrics(tmp_path: Path) -> None:
    file = tmp_path / "table.csv.gz"
    file.write_bytes(gzip.compress(FREE_TABLE.encode()))
    space = parse_space(
        {"optimizer": ["lion", "adamw"], "momentum": {"choices": [0.5], "when": {"optimizer": "lion"}}}, FREE
    )
    stored = read(file, FREE)
    accuracy = Objective("accuracy", "maximize", "accuracy")
    stored.check(space, 2, "study.toml", accuracy)
    assert (stored.parameters, stored.epochs) == (("optimizer", "momentum"), 2)
    assert stored.run({"optimizer": "adamw"}, 0)[1] == Reported({"accuracy": 0.5, "loss": -0.75})
    assert stored.best(2, accuracy) == -0.75
    with pytest.raises(InputError, match=r"objective.metric = 'f1': the table does not have it$"):
        stored.check(space, 2, "study.toml", Objective("f1", "maximize", "f1"))


def test_table_of_free_parameters_may_have_seconds(tmp_path: Path) -> None:
    file = tmp_path / "table.csv.gz"
    file.write_bytes(gzip.compress(b"depth,seed,epoch,loss,seconds\n2,0,1,0.5,3\n"))
    assert read(file, FREE).run({"depth": 2}, 0) == (Reported({"loss": 0.5}, seconds=3.0),)
    file.write_bytes(gzip.compress(b"depth,loss\n2,0.5\n"))
    with pytest.raises(InputError, match=r"line 1: the column 'seed' is missing$"):
        read(file, FREE)
