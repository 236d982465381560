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


SUGGEST = """
import sys
from optuna.trial import TrialState
from hpo.search.samplers.base import Observation
from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import SAMPLERS
from hpo.values.space import Range, SearchSpace

space = SearchSpace({"x": Range(0.0, 1.0), "n": Range(1, 4, integer=True)})
sampler = SAMPLERS[sys.argv[1]].model_validate({"startup": 2})
sampler.load_plan()
known = set(sys.modules)
points = sampler.initial(space, 60, 0)
print(sorted(sys.modules.keys() - known))
sampler.load()
known = set(sys.modules)
history = [Observation(point, TrialState.COMPLETE, 1.0, {1: 1 + point["x"]}) for point in points]
sampler.suggest(space, [*history, Observation(points[0], TrialState.RUNNING)], 2, 0)
print(sorted(sys.modules.keys() - known))
"""


@pytest.mark.parametrize(
    "name", [name for name, section in SAMPLERS.items() if name != "random" and "Brute" not in name]
)
def test_loaded_sampler_imports_nothing_more(name: str) -> None:
    """An import under the lock of a study makes all workers wait."""
    process = subprocess.run([sys.executable, "-c", SUGGEST, name], capture_output=True, text=True)
    assert process.stdout == "[]\n[]\n", process.stderr
