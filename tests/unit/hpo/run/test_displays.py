"""Screens and lines, without a terminal and without a notebook."""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.live import best, finished, live_of, running, stage_status

from hpo.run import displays
from hpo.run.displays import (
    NOTES,
    Lines,
    NotebookScreen,
    Notes,
    TerminalScreen,
    has_audience,
    in_notebook,
    open_display,
)
from hpo.values.objective import Objective


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Make this process the kernel of a notebook. Return what the cell shows: display id and content."""
    shown: list[tuple[str, dict[str, str]]] = []

    def display(content: dict[str, str], **options: Any) -> object:
        assert options == {"raw": True, "display_id": True}
        shown.append(("new", content))
        return SimpleNamespace(update=update)

    def update(content: dict[str, str], raw: bool) -> None:
        assert raw
        shown.append(("same", content))

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return shown


def test_notebook_gets_one_output_that_is_replaced(notebook: list[tuple[str, dict[str, str]]]) -> None:
    assert in_notebook()
    assert has_audience()
    screen = open_display()
    assert isinstance(screen, NotebookScreen)
    screen.log = Path("/logs/1.log")
    screen.start()
    screen.show(running())
    screen.hear("[cpu/0] a line of a worker")
    screen.write("[cpu/1] worker ended <b>")
    screen.show(finished())
    screen.stop()
    assert [kind for kind, _ in notebook] == ["new", "same", "same"]
    assert notebook[0][1]["text/plain"].strip() == ""
    assert "62 of 96 epochs" in notebook[1][1]["text/plain"]
    assert "━" in notebook[1][1]["text/html"]
    last = notebook[2][1]
    assert "16 of 16 trials" in last["text/plain"]
    assert "/logs/1.log" in last["text/plain"]
    assert "a line of a worker" not in last["text/plain"]
    assert "worker ended &lt;b&gt;" in last["text/html"]


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace()
    for get_ipython in (lambda: shell, lambda: None):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=get_ipython))
        assert not in_notebook()


def test_output_that_is_no_terminal_has_no_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, expected in ((Terminal(), True), (io.StringIO(), False), (None, False)):
        monkeypatch.setattr(sys, "stdout", stream)
        assert has_audience() is expected


def test_second_display_on_a_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    first = open_display()
    first.start()
    assert isinstance(first, TerminalScreen)
    assert isinstance(open_display(), Lines)
    first.stop()
    assert isinstance(open_display(), TerminalScreen)
    displays._screen.release()


@pytest.fixture(autouse=True)
def _smart_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def test_dumb_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(Terminal()), Lines)


def test_screen_leaves_its_last_state_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    screen = open_display(terminal)
    screen.start()
    screen.show(running())
    screen.hear("[cpu/0] ImportError: no module")
    screen.write("[cpu/0] worker ended with exit code 1; starting it again (1 of 20)")
    screen.show(finished())
    screen.stop()
    text = terminal.getvalue()
    assert "\x1b[?1049h" not in text  # no second page, which would vanish
    last = text[text.rindex("Study digits: finished") :]
    assert "ImportError: no module" in last
    assert "starting it again" in last


def test_log_lines_appear_above_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler, logger = logging.StreamHandler(terminal), logging.getLogger()
    logger.addHandler(handler)
    screen = open_display()
    try:
        screen.start()
        screen.show(running())
        logging.getLogger("hpo.launch").warning("the trials of one are free")
        screen.show(running())
        screen.stop()
    finally:
        logger.removeHandler(handler)
    assert handler.stream is terminal
    text = terminal.getvalue()
    assert text.index("the trials of one are free") < text.rindex("Study digits: search")


def test_colour_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    screen = open_display(terminal)
    screen.start()
    screen.show(running())
    screen.stop()
    assert "\x1b[36m" not in terminal.getvalue()  # cyan


def test_lines_show_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    begun = live_of(stage_status(RUNNING=2))
    for live in (
        begun,
        begun,
        live_of(stage_status(RUNNING=2, COMPLETE=1, paused=3, best=best())),
        finished(),
    ):
        lines.show(live)
    lines.hear("[cpu/0] a line of a worker")
    assert capsys.readouterr().err.splitlines() == [
        "search: 0 of 16 trials finished",
        "search: 1 of 16 trials finished, 3 paused, best loss 0.2572 (trial 14)",
        "search: 16 of 16 trials finished, best loss 0.2572 (trial 14)",
        "full: 2 of 2 trials finished, best loss 0.0500 (trial 1)",
        "[cpu/0] a line of a worker",
    ]


def test_metric_whose_name_looks_like_markup_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    odd = live_of(stage_status(best=best(0, 1.0)), objective=Objective("[/x]", "minimize", "x"))
    Lines().show(odd)
    assert "best [/x] 1 (trial 0)" in capsys.readouterr().err
    screen = NotebookScreen()
    screen.show(replace(odd))
    assert "[/x] 1" in screen._bundle()["text/plain"]


def test_notes_keep_the_last_line_of_a_worker_that_ended() -> None:
    notes = Notes()
    for line in ("[cpu/0] first", "[cpu/1] other", "[cpu/0] the reason"):
        notes.hear(line)
    notes.write("[cpu/0] worker ended with exit code 1")
    assert list(notes.lines) == ["[cpu/0] the reason", "[cpu/0] worker ended with exit code 1"]
    notes.write("waiting for the storage: h: refused")
    notes.write("the storage answers again")
    assert len(notes.lines) == NOTES
