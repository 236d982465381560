"""What `hpo workers` says at its end."""

from __future__ import annotations

from dataclasses import replace

from optuna.trial import TrialState

from hpo.cli.training import _next_step
from hpo.study.failures import Failures
from hpo.study.status import Best, StageStatus, Status
from hpo.values.objective import LOSS

NOTHING = StageStatus(
    budget=2,
    retried=0,
    states={state.name: 0 for state in TrialState},
    paused=0,
    distinct_cells=0,
    best=None,
    device_seconds=0.0,
    activities={},
    trial_seconds={},
    stopped=None,
)
FAILED = replace(NOTHING, states={**NOTHING.states, "FAIL": 2}, failures=Failures(2, 0, "ValueError: a bug"))
DONE = replace(
    NOTHING, states={**NOTHING.states, "COMPLETE": 1, "FAIL": 1}, best=Best(1, 0.5, {"lr": 0.1}, 0.9, {})
)


def step(search: StageStatus, full: StageStatus) -> str:
    return _next_step("own", Status("own", "fingerprint", LOSS, search, full, ()))


def test_stage_without_a_result_names_the_retry() -> None:
    words = "finished without a result: 2 trials failed, trial 0 with ValueError: a bug; "
    assert step(FAILED, NOTHING) == f"{words}once the cause is mended: hpo study retry own"
    assert step(DONE, FAILED) == f"{words}once the cause is mended: hpo study retry own-full"


def test_stage_with_a_result_leads_on() -> None:
    some = replace(DONE, failures=Failures(1, 0, "why"))
    assert step(some, NOTHING).startswith("search finished; next: hpo promote own")
    assert step(some, some) == "finished; next: hpo export own --bundle DIR"
