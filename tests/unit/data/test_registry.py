import subprocess
import sys
from pathlib import Path

import pytest

from hpo import data
from hpo.data import DataError


def test_importing_data_loads_nothing_heavy() -> None:
    heavy = "torch torchvision sklearn scipy PIL"
    code = (
        "import sys, data; data.check('digits'); data.check('a.b:c'); "
        f"print(*set({heavy!r}.split()) & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_every_name_is_checked_and_opened_without_files() -> None:
    for name in data.names():
        data.check(name)
        assert data.open_dataset(name, Path("nowhere")).name == name


@pytest.mark.parametrize("name", ["own:load", "own.sets.birds:load_all"])
def test_name_of_a_users_function_passes(name: str) -> None:
    data.check(name)


@pytest.mark.parametrize(
    "name", ["", "own:", ":load", "own.:load", "own:load()", "own/sets.py:load", "a:b:c", "1:b"]
)
@pytest.mark.parametrize("refuse", [data.check, lambda name: data.open_dataset(name, Path())])
def test_malformed_name_is_refused(name: str, refuse: object) -> None:
    assert callable(refuse)
    with pytest.raises(DataError, match=r"no data set .* or your own as package\.module:function"):
        refuse(name)


@pytest.mark.parametrize("name", ["sets.py:load", "sets.load", "./sets.py:load"])
def test_near_miss_names_the_right_form(name: str) -> None:
    with pytest.raises(DataError, match=r"no data set .*: did you mean sets:load\? it must be one of"):
        data.check(name)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set 'emnist-byclas': did you mean emnist-byclass or "):
        data.check("emnist-byclas")
    with pytest.raises(DataError, match=r"'zzz': it must be one of emnist-byclass, .*digits, or your own"):
        data.check("zzz")
