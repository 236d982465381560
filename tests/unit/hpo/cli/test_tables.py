import re
from collections.abc import Sequence

import pytest
from optuna.trial import TrialState

from hpo.cli.layout import Screen, Table
from hpo.cli.tables import trials_of
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.values.epoch import VALIDATION_ACCURACY
from hpo.values.objective import LOSS, Objective

WIDTHS = (40, 60, 80, 100, 200, None)

FULL = [
    (3, 0.0187333, 10, 0.0666, 0.9805, 35),
    (0, 0.0222139, 0, 0.0698, 0.9819, 32),
    (2, 0.0187333, 10, 0.0715, 0.9791, 33),
]


def full_trials(rows: Sequence[tuple[int, float, int, float, float, int]] = FULL) -> list[TrialRow]:
    """Return fully trained trials that differ in their learning rate only."""
    return [
        TrialRow(
            number,
            number,
            TrialState.COMPLETE,
            {"lr": lr, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.000123457},
            TrialRecord(1, promoted_from=origin, epochs=epochs, metrics={VALIDATION_ACCURACY: accuracy}),
            loss,
        )
        for number, lr, origin, loss, accuracy, epochs in rows
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_cut_at_any_width(width: int | None) -> None:
    shown = Screen(width).show(trials_of(full_trials(), "Full training", LOSS))
    assert "…" not in shown
    words = set(re.split(r"[\s,:]+", shown))
    for number, lr, origin, loss, accuracy, epochs in FULL:
        assert {str(number), f"{lr:g}", str(origin), f"{loss:.4f}", f"{accuracy:.2%}", str(epochs)} <= words
    assert {"32", "0.9", "0.000123457"} <= words
    assert width is None or max(map(len, shown.splitlines())) <= width


def test_table_of_full_trainings_fits_eighty_columns() -> None:
    assert Screen(80).show(trials_of(full_trials(), "Full training", LOSS)).splitlines() == [
        "Full training",
        "",
        "                  batch                 weight  search",
        "trial         lr   size  momentum        decay   trial    loss  accuracy  epochs",
        "────────────────────────────────────────────────────────────────────────────────",
        "3      0.0187333     32       0.9  0.000123457      10  0.0666    98.05%      35",
        "0      0.0222139     32       0.9  0.000123457       0  0.0698    98.19%      32",
        "2      0.0187333     32       0.9  0.000123457      10  0.0715    97.91%      33",
    ]


def test_constant_columns_move_below_a_table_that_is_too_wide() -> None:
    assert Screen(60).show(trials_of(full_trials(), "Full training", LOSS)).splitlines()[2:] == [
        "                  search",
        "trial         lr   trial    loss  accuracy  epochs",
        "──────────────────────────────────────────────────",
        "3      0.0187333      10  0.0666    98.05%      35",
        "0      0.0222139       0  0.0698    98.19%      32",
        "2      0.0187333      10  0.0715    97.91%      33",
        "in all rows: batch size 32, momentum 0.9,",
        "  weight decay 0.000123457",
    ]


def test_one_wide_row_becomes_a_block() -> None:
    assert Screen(60).show(trials_of(full_trials(FULL[:1]), "Full training", LOSS)).splitlines()[2:] == [
        "trial 3, lr 0.0187333, batch size 32, momentum 0.9,",
        "  weight decay 0.000123457, search trial 10, loss 0.0666,",
        "  accuracy 98.05%, epochs 35",
    ]


def test_column_without_an_origin_is_left_out_and_the_state_is_shown_on_request() -> None:
    waiting = TrialRow(0, 0, TrialState.WAITING, {"lr": 0.1, "batch_size": 1048576}, TrialRecord(1))
    assert trials_of([waiting], "search", LOSS, with_state=True) == Table(
        "search",
        ["trial", "state", "lr", "batch size", "loss", "accuracy", "epochs"],
        [["0", "WAITING", "0.1", "1048576", "-", "-", "-"]],
    )


def test_table_without_rows_has_its_header() -> None:
    for width in WIDTHS:
        assert "loss" in Screen(width).show(trials_of([], "search", LOSS))


def test_wide_characters_take_two_columns() -> None:
    table = Table("Classes", ("class", "images"), [("あいう", "12"), ("b", "3")])
    assert Screen(80).show(table).splitlines()[-2:] == ["あいう      12", "b            3"]


def test_terminal_shows_the_title_in_bold() -> None:
    assert Screen(80, bold=True).show(Table("Studies", ("study",), [])).startswith("\x1b[1mStudies\x1b[0m")


def test_metrics_of_a_function_stand_beside_the_objective() -> None:
    rows = [
        TrialRow(
            0, 0, TrialState.COMPLETE, {"max_depth": 2}, TrialRecord(1, epochs=3, metrics=metrics), value
        )
        for value, metrics in ((12345.678, {"score": 12345.678, "val/loss": -0.5}), (-2.0, {"score": -2.0}))
    ]
    shown = Screen(80).show(trials_of(rows, "Search", Objective("score", "maximize", "score"))).splitlines()
    assert [line.split() for line in shown[2:] if line[:1] != "─"] == [
        ["trial", "max_depth", "score", "val/loss", "epochs"],
        ["0", "2", "12345.7", "-0.5", "3"],
        ["0", "2", "-2", "-", "3"],
    ]
