"""A trainer prepares its engine and starts sessions."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from support.training import GOOD, SEARCH, SLOW, images, linear, run_to_end, small_trainer

from hpo.training.classification import Classification
from hpo.training.engines.eager import EagerEngine
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Phase


class PreparedEngine(EagerEngine):
    """Records what it is prepared for."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[tuple[int, list[Phase], tuple[str, ...]]] = []

    def prepare(self, batch_size: int, phases: Iterable[Phase], columns: Sequence[str] = ()) -> None:
        self.prepared.append((batch_size, list(phases), (*columns,)))


def test_the_engine_is_prepared_for_all_that_the_recipe_says_of_steps() -> None:
    engine, task = PreparedEngine(), Task(linear, images(0), images(1, 70), Classification(10))
    Trainer(task, Recipe(SEARCH, 30, 5, columns=("some",)), engine).prepare()
    assert engine.prepared == [(30, list(SEARCH.phases), ("some",))]


def test_only_preparation_and_the_epoch_itself_are_interruptible() -> None:
    entered: list[str] = []

    @contextmanager
    def interruptible() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    task = Task(linear, images(0), images(1, 70), Classification(10))
    trainer = Trainer(task, Recipe(SEARCH, 16, 5), runtime=Runtime(interruptible=interruptible))
    session = trainer.start({0: GOOD})
    assert entered == []
    session.epoch()
    assert entered == ["in", "out"]
    trainer.prepare()
    assert entered == ["in", "out"] * 2


def test_members_start_from_their_states_or_from_new_weights() -> None:
    first = small_trainer(SEARCH).start({0: GOOD})
    first.epoch()
    session = small_trainer(SEARCH).start({0: GOOD, 1: SLOW}, first.states())
    assert {key: state.epochs for key, state in session.states().items()} == {0: 1, 1: 0}
    assert [len(results) for results in run_to_end(session).values()] == [2, 3]


def test_a_task_is_trained_where_its_images_are() -> None:
    task = Task(linear, images(0, dtype=torch.float64), images(1, 70), Classification(10))
    pack = task.new_pack([1, 2])
    assert task.device == torch.device("cpu")
    assert (len(pack), pack.weights.parameters.dtype) == (2, torch.float64)
