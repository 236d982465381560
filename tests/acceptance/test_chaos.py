"""A study survives faults that are injected while it runs."""

import re
import subprocess
import sys
from collections.abc import Mapping

import pytest
from support.shell import ROOT

from benchmarks.chaos.faults import FAULTS, FUNCTION_FAULTS, Fault


@pytest.mark.slow
@pytest.mark.timeout(660)
@pytest.mark.parametrize(
    ("options", "kinds"), [([], FAULTS), (["--function"], FUNCTION_FAULTS)], ids=["packs", "function"]
)
def test_study_survives_six_faults(options: list[str], kinds: Mapping[str, Fault]) -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--quick", *options]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as chaos:
        try:
            table, log = chaos.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            chaos.terminate()  # unlike a kill, this lets it stop its servers and workers
            raise
    assert chaos.returncode == 0, f"{table}\n{log}"
    counts = {
        name: [int(n) for n in columns]
        for name, *columns in re.findall(r"^([^\d\n]+?) +(\d+) +(\d+)$", table, re.M)
    }
    assert counts.keys() == {*kinds, "all"}
    injected, survived = counts["all"]
    assert injected == survived >= 5  # on a fast machine the study may end before the sixth fault
