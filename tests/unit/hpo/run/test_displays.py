"""Bars and lines, without a terminal and without a notebook."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from rich.progress import Progress

from hpo.run import displays
from hpo.run.displays import (
    Lines,
    NotebookBars,
    TerminalBars,
    columns,
    has_audience,
    in_notebook,
    open_display,
    progress_text,
)
from hpo.study.status import StageStatus
from hpo.values.objective import LOSS, Objective


def stage(finished: int, paused: int = 0, best: object = None) -> StageStatus:
    return cast(StageStatus, SimpleNamespace(budget=12, finished=finished, paused=paused, best=best))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bars_cut_no_figure(width: int) -> None:
    best = SimpleNamespace(value=0.4084, trial=1234)
    shown = cast(StageStatus, SimpleNamespace(budget=14000, finished=4000, paused=900, best=best))
    console = Console(width=width, file=io.StringIO(), force_terminal=True, no_color=True)
    bars = Progress(*columns(width), console=console)
    bars.add_task("search", total=shown.budget, figures=progress_text(shown, "14000", LOSS))
    with console.capture() as capture:
        console.print(bars.get_renderable())
    text = capture.get()
    assert "…" not in text
    for figure in ("4000 of 14000 finished", "900 paused", "0.4084", "1234"):
        assert figure in text


def test_metric_whose_name_looks_like_markup_is_shown() -> None:
    bars = NotebookBars()
    bars.show(
        "search", stage(1, best=SimpleNamespace(value=1.0, trial=0)), Objective("[/x]", "minimize", "x")
    )
    assert "best [/x] 1 (trial 0)" in bars._bundle()["text/plain"]


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


def test_notebook_gets_one_output_that_is_replaced(
    notebook: list[tuple[str, dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_notebook()
    assert has_audience()
    bars = open_display()
    assert isinstance(bars, NotebookBars)
    bars.start()
    bars.show("search", stage(3, 2), LOSS)
    bars.write("[cpu/0] a line <b>")
    bars.show("search", stage(12), LOSS)
    bars.stop()
    assert [kind for kind, _ in notebook] == ["new", "same", "same"]
    assert "search" in notebook[1][1]["text/plain"]
    assert "3 of 12 finished, 2 paused" in notebook[1][1]["text/plain"]
    assert "12 of 12 finished" in notebook[2][1]["text/html"]
    assert "━" in notebook[2][1]["text/html"]
    assert capsys.readouterr().out == "[cpu/0] a line <b>\n"


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
    assert isinstance(first, TerminalBars)
    assert isinstance(open_display(), Lines)
    first.stop()
    assert isinstance(open_display(), TerminalBars)
    displays._bars.release()
