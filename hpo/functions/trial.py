"""What a training function gets: its parameters, its state, and its epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hpo.values.stage import Stage

if TYPE_CHECKING:
    from hpo.functions.state_files import StateFiles


@dataclass(eq=False)
class Trial:
    """A trial as its training function sees it.

    `params`: the hyperparameters by name. `budget`: the epochs of the whole trial. `stage`: "search" or
    "full". `seed`: the same in every attempt at this trial. `device`: torch's name of the device, such as
    "cpu" or "cuda:0". `number`: the trial's number in its stage. `directory`: a folder for files that belong
    to the trial; when the trial resumes, its files are as they were committed.

    A test of a training function makes a trial by hand: `list(fit(Trial({"lr": 0.1}, budget=2)))`.
    """

    params: Mapping[str, Any]
    budget: int = 1
    stage: Stage = "search"
    seed: int = 0
    device: str = "cpu"
    number: int = 0
    directory: Path = field(default_factory=lambda: _temporary_folder())
    trained: int = 0
    """The epochs that an earlier attempt at this trial has trained and saved."""
    states: "StateFiles | None" = field(default=None, repr=False)
    counts_on: bool = field(default=False, init=False, repr=False)
    """Whether the function has asked for `epochs`, so that it ends by itself after the last epoch."""

    if not TYPE_CHECKING:  # a type checker knows the attributes

        def __getattr__(self, name: str) -> None:
            """Say what stands in the place of a method of Optuna's trial."""
            raise AttributeError(f"a trial has no {name!r}{_hint(name)}", name=name, obj=self)

    @property
    def epochs(self) -> range:
        """Return the numbers of the epochs to train: from the one after the saved state to `budget`."""
        self.counts_on = True
        return range(self.trained + 1, self.budget + 1)

    def load(self) -> Any:
        """Return the state committed last, with the types it was saved with; None if there is none.

        Tensors are on the CPU.
        """
        return self._states.load()

    def save(self, state: Any) -> None:
        """Save a state, which the next `yield` commits together with the metrics of its epoch.

        A state is nested dicts, lists and tuples of numpy arrays, torch tensors, numbers, text, booleans,
        None and bytes. It is copied at once. Raises `StateTypeError` for anything else.
        """
        self._states.stage(state)

    @property
    def _states(self) -> "StateFiles":
        if self.states is None:
            from hpo.functions.state_files import StateFiles  # it imports numpy, and this module is light

            self.states = StateFiles(_temporary_folder())
        return self.states


def _hint(name: str) -> str:
    """Return the end of a message about an attribute of Optuna's trial."""
    if name.startswith("suggest_"):
        return "; parameters are in [space] of the study file, and their values in trial.params"
    return "; yield the metrics of an epoch instead" if name in ("report", "should_prune") else ""


_folders: list[TemporaryDirectory[str]] = []
"""Temporary folders of trials that were made by hand. They end with the process."""


def _temporary_folder() -> Path:
    folder = TemporaryDirectory(prefix="hpo-trial-")
    _folders.append(folder)
    return Path(folder.name)
