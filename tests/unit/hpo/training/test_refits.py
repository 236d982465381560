"""Refits: the phases of a training again, for as many epochs as the kept weights had."""

from dataclasses import replace

import numpy as np
import pytest
from support.candidates import candidate
from support.delayed_evaluation import DelayedEvaluation
from support.training import FULL, GOOD, SLOW, normalised, run_to_end, small_trainer, with_evaluator

from hpo.values.candidate import Candidate
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_LOSS
from hpo.values.refit import epoch_limits

HASTY = candidate(lr=3.0, momentum=0.95, weight_decay=0.0, seed=1)
"""Soon stopped early."""


@pytest.mark.parametrize("ema", [None, 0.8])
@pytest.mark.parametrize("member", [GOOD, SLOW, HASTY])
def test_refit_on_the_same_images_ends_with_the_kept_weights(member: Candidate, ema: float | None) -> None:
    budget = replace(FULL, phases=tuple(replace(phase, ema=ema) for phase in FULL.phases))
    session = small_trainer(budget, normalised).start({0: member})
    curve = run_to_end(session)[0]
    costs = {result.epoch: result.metrics[VALIDATION_LOSS] for result in curve}
    limits = epoch_limits(budget.phases, costs, curve[-1].kept_epoch)
    assert sum(limits) <= curve[-1].kept_epoch
    refit = small_trainer(budget.refit(), normalised).start({0: replace(member, limits=limits)})
    (results,) = run_to_end(refit).values()
    assert [result.phase for result in results] == [
        phase for phase, epochs in enumerate(limits) for _ in range(epochs)
    ]
    assert results[-1].kept_epoch == len(results)
    for name, array in session.weights(0).items():
        assert np.array_equal(array, refit.weights(0)[name]), name


def test_refit_has_no_metrics_of_the_validation_images() -> None:
    trainer = small_trainer(FULL.refit())
    session = trainer.start({0: replace(GOOD, limits=(2,)), 1: replace(SLOW, limits=(1, 2))})
    results = [result for curve in run_to_end(session).values() for result in curve]
    assert [result.status for result in results] == [
        "training",
        "finished",
        "training",
        "training",
        "finished",
    ]
    assert all(result.metrics.keys() == {TRAIN_LOSS} for result in results)


def test_members_of_refits_end_at_their_own_limits_with_an_evaluator() -> None:
    trainer = with_evaluator(small_trainer(FULL.refit()), DelayedEvaluation(1))
    limits = {0: (3, 1), 1: (1,), 2: (2, 3)}
    session = trainer.start({key: replace(GOOD, limits=value) for key, value in limits.items()})
    assert {key: len(curve) for key, curve in run_to_end(session).items()} == {0: 4, 1: 1, 2: 5}
