"""What the commands name as the next step of a study."""

from __future__ import annotations

from dataclasses import replace

from optuna.trial import TrialState

from hpo.cli.next_step import next_step
from hpo.study.failures import Failures
from hpo.study.lifecycle import BY_USER, Stopped
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


WAITING = replace(NOTHING, states={**NOTHING.states, "WAITING": 2})
RULE = Stopped("rule", "target reached")
WORDS = "finished without a result: "


def step(search: StageStatus, full: StageStatus) -> str:
    return next_step(Status("own", "fingerprint", LOSS, search, full, ()))


def test_stage_without_a_result_names_the_retry() -> None:
    words = f"{WORDS}2 trials failed, trial 0 with ValueError: a bug; "
    assert step(FAILED, NOTHING) == f"{words}once the cause is mended: hpo study retry own"
    assert step(DONE, FAILED) == f"{words}once the cause is mended: hpo study retry own-full"
    assert step(replace(FAILED, failures=None), NOTHING).startswith(f"{WORDS}no search trial completed; ")


def test_stage_with_a_result_leads_on() -> None:
    some = replace(DONE, failures=Failures(1, 0, "why"))
    assert step(some, NOTHING).startswith("search finished; next: hpo promote own")
    assert step(some, some) == "finished; next: hpo export own --bundle DIR"


def test_open_trials_need_workers() -> None:
    suggested_later = replace(NOTHING, to_come=2)
    for search, full in ((WAITING, NOTHING), (suggested_later, NOTHING), (DONE, WAITING)):
        assert step(search, full) == "next: hpo workers own"


def test_stopped_study_is_resumed_unless_nothing_is_left() -> None:
    resume = "stopped by hand; to continue: hpo study resume own"
    by_hand = replace(NOTHING, stopped=BY_USER)
    assert step(replace(WAITING, stopped=BY_USER), by_hand) == resume
    assert step(replace(DONE, stopped=BY_USER), by_hand) == resume
    assert step(DONE, replace(WAITING, stopped=BY_USER)) == resume
    done = replace(DONE, stopped=BY_USER)
    assert step(done, done) == "finished; next: hpo export own --bundle DIR"


def test_stopped_search_with_a_result_is_promoted() -> None:
    some = replace(DONE, states={**DONE.states, "WAITING": 1}, stopped=RULE)
    assert step(some, NOTHING).startswith("search finished; next: hpo promote own")
    assert step(replace(WAITING, stopped=RULE), NOTHING).startswith("stopped (target reached); to continue: ")
    running = replace(some, states={**some.states, "RUNNING": 1})
    assert step(running, NOTHING) == "next: hpo workers own"


def test_trials_of_other_programs_are_left_out() -> None:
    stage = replace(
        NOTHING, budget=2, states={**NOTHING.states, "COMPLETE": 3, "WAITING": 1}, foreign={"COMPLETE": 2}
    )
    assert (stage.finished, stage.present, stage.open) == (1, 2, 1)
