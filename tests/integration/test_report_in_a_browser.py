"""A report in a real browser, opened from a file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from optuna.trial import TrialState
from support.report_data import event, study_data, trial

from hpo.report.page import render
from hpo.report.report import make_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

EVENTS = [
    event(0, 0, "claimed"),
    event(3, 0, "lost"),
    event(4, 0, "taken over", "b"),
    event(9, 0, "completed"),
]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_every_figure_is_drawn_without_an_error(tmp_path: Path) -> None:
    trials = [
        *(
            trial(n, [1.0, 0.5 + n / 50, 0.4 + n / 60], error=0.01, point={"momentum": n / 40})
            for n in range(30)
        ),
        trial(30, [1.0], TrialState.PRUNED, point={"lr": 1e-2}),
        *(trial(n, [0.2 + n / 10], stage="full", promoted_from=n) for n in range(6)),
    ]
    data = study_data(trials, events=EVENTS, seconds={"search": {"training": 60.0}, "full": {"idle": 1.0}})
    report = make_report(data)
    path = tmp_path / "report.html"
    path.write_text(render(report), encoding="utf-8")
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, text=True, capture_output=True, check=True, timeout=120)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert 'data-drawn="true"' in done.stdout
    plots = done.stdout.count('class="plot js-plotly-plot"')
    assert plots == done.stdout.count('type="application/json"')
    assert plots >= 12
