import subprocess
import sys

import pytest
from pydantic import ValidationError
from support.spaces import PAPER

from hpo.search.samplers.base import make_sampler
from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import SAMPLERS
from hpo.search.samplers.section import SamplerSection


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_registered_name_makes_its_sampler(name: str) -> None:
    sampler = make_sampler(name)
    assert SAMPLERS[name] == f"{type(sampler).__module__}:{type(sampler).__name__}"


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_random_and_tpe_begin_with_the_random_plan(name: str) -> None:
    assert make_sampler(name).initial(PAPER, 12, 3) == plan(PAPER, 12, 3)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="'random', 'tpe' or 'gp'"):
        SamplerSection(name="best")


def test_checking_a_study_file_imports_no_sampler() -> None:
    code = "import sys, hpo.spec.study_spec; print({'optuna', 'scipy', 'sklearn'} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "set()\n"
