"""The spread of a result over the seeds."""

from statistics import mean, stdev

from optuna.trial import TrialState

from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.seeds import Seeds, Spread, seeds_of, spread
from hpo.values.objective import LOSS


def training(number: int, loss: float, promoted_from: int = 4, state: str = "COMPLETE") -> TrialRow:
    metrics = {"validation_loss": loss, "validation_accuracy": 1 - loss}
    record = TrialRecord(number, promoted_from=promoted_from, metrics=metrics)
    return TrialRow(100 + number, number, TrialState[state], {"lr": 0.1}, record, loss)


def test_seeds_are_the_completed_trainings_of_one_promoted_trial() -> None:
    rows = [training(0, 0.3), training(1, 0.2), training(2, 0.1, 9), training(3, 0.05, state="FAIL")]
    assert [row.number for row in seeds_of(rows, rows[0], LOSS)] == [1, 0]


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    rows = [training(1, 0.2), training(0, 0.3), training(5, 0.4)]
    seeds = spread(rows)
    assert (seeds.trials, seeds.best) == ((0, 1, 5), 1)
    assert seeds.metrics["validation_loss"] == Spread(mean([0.2, 0.3, 0.4]), stdev([0.2, 0.3, 0.4]))
    assert seeds.describe(LOSS) == (
        "3 seeds (trials 0, 1, 5, mean ± standard deviation): loss 0.3000 ± 0.1000, "
        "accuracy 70.00% ± 10.00%; best: trial 1"
    )


def test_single_seed_has_no_deviation() -> None:
    seeds = spread([training(0, 0.25)])
    assert seeds.describe(LOSS) == "1 seed (trial 0): loss 0.2500, accuracy 75.00%"
    assert seeds.to_json() == {
        "trials": [0],
        "best": 0,
        "metrics": {
            "validation_loss": {"mean": 0.25, "deviation": None},
            "validation_accuracy": {"mean": 0.75, "deviation": None},
        },
    }


def test_metric_that_a_seed_lacks_is_left_out() -> None:
    other = TrialRow(7, 7, TrialState.COMPLETE, {}, TrialRecord(7, metrics={"validation_loss": 0.5}), 0.5)
    assert isinstance(spread([other, training(0, 0.6)]), Seeds)
    assert spread([other, training(0, 0.6)]).metrics.keys() == {"validation_loss"}
