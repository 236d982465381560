"""The live screen at several widths, without colour."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.live import best, finished, live_of, running, stage_status

from hpo.run.screen import Screen
from hpo.study.lifecycle import BY_USER
from hpo.study.live import BudgetUse, LiveStatus, StageProgress, WorkerActivity
from hpo.study.time_left import TimeLeft

LOG = Path("/home/user/.local/share/hpo/logs/digits-1a2b3c4d/20260102-030405-77.log")


def shown(live: LiveStatus, screen: Screen) -> list[str]:
    console = Console(width=screen.width, no_color=True, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(screen.render(live))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_wide_screen() -> None:
    assert shown(running(), Screen(140, log=LOG)) == [
        "Study digits: search, 3 workers",
        "search    ━━━━━━━━━━━╸         65%  62 of 96 epochs, 11 trials, 5 paused, 1 failed",
        "left      5 to 9 min (search about 40 s, full training 4 to 8 min), from the last 60 epochs of 2 "
        "workers",
        "best      loss 0.2572, accuracy 92.71% (trial 14)",
        "          lr 0.03125, batch_size 32, momentum 0.9",
        "",
        "worker              stage   trials        epochs  images/s",
        "cpu/0               search  3, 7, 11 + 2     2-4    12,300",
        "cpu/1               search  5                  8     6,120  silent for 2.2 min",
        "host-1234 (cuda:0)  waits",
        "",
        "03:04:06  trials 3 and 4 began on cpu/0",
        "03:04:07  trial 9 pruned after 4 epochs",
        "03:04:08  trial 5 paused after epoch 2",
        "03:04:09  trial 7 failed: epoch 3: validation_loss is nan",
        "",
        f"log       {LOG}",
    ]


def test_narrow_screen_has_no_bars_and_no_table() -> None:
    assert shown(running(), Screen(40, log=LOG)) == [
        "Study digits: search, 3 workers",
        "search: 65%, 62 of 96 epochs, 11 trials,",
        "5 paused, 1 failed",
        "left: 5 to 9 min (search about 40 s,",
        "full training 4 to 8 min), from the last",
        "60 epochs of 2 workers",
        "best: loss 0.2572, accuracy 92.71%",
        "(trial 14)",
        "with lr 0.03125, batch_size 32, momentum",
        "0.9",
        "",
        "cpu/0: search 3, 7, 11 + 2, epoch 2-4,",
        "12,300 images/s",
        "cpu/1: search 5, epoch 8, 6,120",
        "images/s, silent for 2.2 min",
        "host-1234 (cuda:0) waits",
        "",
        "03:04:06  trials 3 and 4 began on cpu/0",
        "03:04:07  trial 9 pruned after 4 epochs",
        "03:04:08  trial 5 paused after epoch 2",
        "03:04:09  trial 7 failed: epoch 3:",
        "validation_loss is nan",
        "",
        "log:",
        "/home/user/.local/share/hpo/logs/digits-",
        "1a2b3c4d/20260102-030405-77.log",
    ]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_no_line_is_cut(width: int) -> None:
    notes = ("[cpu/0] worker was killed by SIGKILL; standby takes its place (1 of 20)",)
    lines = shown(running(), Screen(width, notes=notes, log=LOG))
    assert max(map(len, lines)) <= width
    text = " ".join("".join(lines).split())
    for words in ("12,300", "silent for", "takes its place", "077.log"[1:], "1 failed", "2 workers"):
        assert words.replace(" ", "") in text.replace(" ", "")
    assert "…" not in text


def test_finished_study() -> None:
    assert shown(finished(), Screen(80)) == [
        "Study digits: finished",
        "search    ━━━━━━━━━━━━━━━━━━  100%  16 of 16 trials, 50 epochs",
        "full      ━━━━━━━━━━━━━━━━━━  100%  2 of 2 trainings, 61 epochs",
        "left      nothing is left to train",
        "best      loss 0.0500, accuracy 92.71% (full training 1)",
        "          lr 0.03125, batch_size 32, momentum 0.9",
    ]


def test_study_without_an_epoch_says_that_the_time_is_unknown() -> None:
    unknown = TimeLeft(None, None, None, "no worker is running")
    begun = StageProgress(BudgetUse(0, 16, "trials"), 0, 0.0, unknown)
    live = replace(live_of(stage_status(WAITING=8, to_come=8)), search=begun, left=unknown)
    assert shown(live, Screen(80)) == [
        "Study digits: search, no worker",
        "search                          0%  0 of 16 trials, 0 epochs",
        "left      unknown: no worker is running",
        "best      no trial has completed yet",
    ]


def test_budget_of_device_hours() -> None:
    spent = StageProgress(BudgetUse(0.5, 2, "device hours"), 62, 0.25, TimeLeft(60, 60, 60, "b"))
    lines = shown(replace(running(), search=spent), Screen(120))
    assert lines[1].endswith(" 25%  0.5 of 2 device hours, 11 trials, 5 paused, 1 failed, 62 epochs")


def test_stopped_study_says_why() -> None:
    live = live_of(stage_status(stopped=BY_USER), stage_status(stopped=BY_USER))
    assert shown(live, Screen(80))[0] == "Study digits: stopped by hand"


def test_low_terminal_gets_fewer_workers_and_events() -> None:
    workers = [WorkerActivity(f"cpu/{i}-0123abcd", "cpu", "search", (i,), (1, 1)) for i in range(20)]
    lines = shown(replace(running(), workers=workers), Screen(120, height=24))
    assert len(lines) <= 24
    assert "and 12 more" in lines
    assert sum(line.startswith("03:04") for line in lines) == 3


def test_worker_without_known_images_has_epochs_per_minute() -> None:
    worker = WorkerActivity("cpu/0-0123abcd", "cpu", "search", (3,), (1, 1), 0.25)
    lines = shown(live_of(stage_status(best=best()), workers=[worker]), Screen(80))
    assert lines[-2:] == [
        "worker  stage   trials  epochs  epochs/min",
        "cpu/0   search  3            1          15",
    ]
