import subprocess
import sys

import pytest
from support.spaces import PAPER

from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import DEFAULT, SAMPLERS


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_section_has_its_registered_name(name: str) -> None:
    assert SAMPLERS[name]().name == name
    assert DEFAULT in SAMPLERS


@pytest.mark.parametrize("name", ["random", "tpe", "CmaEsSampler", "GPSampler", "NSGAIISampler"])
def test_samplers_begin_with_the_random_plan(name: str) -> None:
    assert SAMPLERS[name]().initial(PAPER, 12, 3) == plan(PAPER, 12, 3)


def test_checking_a_study_file_imports_no_sampler() -> None:
    slow = {"optuna", "scipy", "sklearn", "cmaes", "torch"}
    code = f"import sys, hpo.spec.study_spec; print({slow} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "set()\n"
