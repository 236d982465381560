import pytest

from hpo.errors import InputError
from hpo.launch.executors.local import LocalExecutor
from hpo.launch.executors.registry import EXECUTORS, make_executor


def test_executor_is_made_with_its_options() -> None:
    executor = make_executor("local", gpus="cpu", per_device=3)
    assert isinstance(executor, LocalExecutor)
    assert len(executor.slots) == 3


def test_unknown_executor_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=rf"^executor 'slurm': must be one of {', '.join(EXECUTORS)}$"):
        make_executor("slurm")
