"""The searches that `benchmarks.default_search` compares, and their options."""

import sys
from itertools import product
from pathlib import Path

import pytest

from benchmarks.default_search import Search, default_rung_of, grid, main, regret_figures, searches, summary
from hpo.errors import InputError
from hpo.simulate.curve_table import CurveTable, Measured, read, write
from hpo.simulate.replay import Moment, Replay
from hpo.values.objective import LOSS, OBJECTIVES
from hpo.values.space import cell

EPOCHS = 9
LOSSES = {
    (lr, size): loss for (lr, size), loss in zip(product((0.1, 0.01), (32, 16)), (1, 2, 3, 4), strict=True)
}


def table() -> CurveTable:
    """Four cells. The order by accuracy is the reverse of that by loss."""
    runs = {
        cell({"lr": lr, "batch_size": size}): ((Measured(loss, loss, loss / 10, 1.0, 0.1),) * EPOCHS,)
        for (lr, size), loss in LOSSES.items()
    }
    return CurveTable(("lr", "batch_size"), runs)


def test_space_is_the_grid_of_the_table(tmp_path: Path) -> None:
    write(tmp_path / "some.csv.gz", table(), [])
    assert grid(read(tmp_path / "some.csv.gz")) == {"lr": [0.01, 0.1], "batch_size": [16, 32]}


def test_study_has_the_table_the_budget_and_the_objective() -> None:
    spec = Search("gp", "pause", "accuracy", 3).spec(table(), EPOCHS, 36)
    assert spec.space.cells == 4
    assert (spec.search.trials, spec.search.epochs, spec.stop.epochs) == (4, EPOCHS, 36)
    assert spec.make_objective() == OBJECTIVES["accuracy"]
    assert spec.to_json()["pruner"]["min_epochs"] == 3


def test_search_without_pruner_spends_the_budget_on_whole_trials() -> None:
    assert Search("random", "none", "loss").spec(table(), EPOCHS, 20).search.trials == 2


def test_default_first_rung_is_that_of_a_study_file() -> None:
    assert default_rung_of(Path("some.csv.gz"), table(), EPOCHS, 36) == 3
    assert default_rung_of(Path("some.csv.gz"), table(), 5, 36) == 1


def test_table_with_a_missing_cell_or_epoch_is_refused() -> None:
    whole = table()
    part = CurveTable(whole.parameters, dict(list(whole.runs.items())[:3]))
    with pytest.raises(InputError, match=r"some\.csv\.gz: space: 1 of 4 cells are not in the table"):
        default_rung_of(Path("some.csv.gz"), part, EPOCHS, 36)
    with pytest.raises(InputError, match=r"some\.csv\.gz: search\.epochs = 10: the table has 9"):
        default_rung_of(Path("some.csv.gz"), whole, 10, 36)


def test_first_rungs_are_compared_where_they_differ() -> None:
    assert list(searches("loss", 1)) == ["random, none", "gp, pause from 1"]
    assert list(searches("loss", 3)) == ["random, none", "gp, pause from 1", "gp, pause from 3"]


def test_search_by_loss_joins_those_by_accuracy() -> None:
    metrics = {name: search.metric for name, search in searches("accuracy", 1).items()}
    assert metrics == {
        "random, none": "accuracy",
        "gp, pause from 1": "accuracy",
        "gp, pause from 1, by loss": "loss",
    }


@pytest.mark.parametrize(("metric", "regret"), [("loss", 2.0), ("accuracy", 0.0)])
def test_regret_is_in_the_metric_whatever_the_search_ranks_by(metric: str, regret: float) -> None:
    best = {"lr": 0.01, "batch_size": 16}
    replay = Replay(LOSS, (Moment(1.0, 1.0, EPOCHS, 1, best),), ())
    figures = regret_figures([replay, replay], table(), EPOCHS, [5, EPOCHS], metric)
    assert figures["mean"] == pytest.approx([1.0, regret])
    assert figures["error"] == [0.0, 0.0]


def test_summary_names_the_worst_table_at_the_end() -> None:
    tables = {"a": {"mean": [0.9, 0.1]}, "b": {"mean": [0.5, 0.4]}, "c": {"mean": [0.4, 0.4]}}
    assert summary(tables) == {
        "mean": pytest.approx([0.6, 0.3]),
        "worst": 0.4,
        "worst table": "b",
        "high": 2,
        "tables": 3,
    }


def test_folder_without_tables_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["default_search", "--tables", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"--tables {tmp_path}: no file *.csv.gz in this folder" in capsys.readouterr().err


def test_wrong_table_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "some.csv.gz", table(), [])
    monkeypatch.setattr(sys, "argv", ["default_search", "--tables", str(tmp_path), "--epochs", "10"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{tmp_path}/some.csv.gz: search.epochs = 10: the table has 9\n"
