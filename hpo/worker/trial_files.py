"""The files of a study's trials: checkpoints of open trials, and weights of fully trained models.

A file name holds the token of the lease under which the file was written. A worker that lost a trial
therefore cannot overwrite the files of the trial's next owner.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor

from hpo.artifacts.folder import ArtifactFolder
from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState
from hpo.training.weights import Weights
from hpo.values.stage import Stage
from hpo.worker.checkpoints import CheckpointError, decode_state, encode_state, encode_tensors, one_line

CHECKPOINTS = "checkpoints"
"""The subfolder of checkpoints. Names of checkpoints, also those in the database, omit it."""

DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """The checkpoints and weights of one study in `folder`. A method that saves raises OSError."""

    folder: ArtifactFolder

    def save_weights(self, trial: LeasedTrial, weights: Mapping[str, Tensor]) -> str:
        """Write the state dict of a fully trained model, and return the name of the file."""
        name = f"trial-{trial.number:04d}-{trial.lease.token}.safetensors"
        self.folder.put(name, encode_tensors(weights))
        return name

    def save_checkpoint(self, stage: Stage, trial: LeasedTrial, state: MemberState) -> str:
        """Write a member state, and return the name of the checkpoint."""
        epochs = state.progress.epochs
        name = f"{stage}-{trial.number:04d}-{trial.lease.token}-{epochs:04d}.safetensors"
        self.folder.put(_in_subfolder(name), encode_state(state))
        return name

    def load_checkpoint(self, name: str, like: Weights) -> MemberState:
        """Return the member state in a checkpoint of the network with weights `like`.

        Raises `CheckpointError`, from an OSError if the file cannot be read.
        """
        path = self.folder.path(_in_subfolder(name))
        try:
            return decode_state(self.folder.get(_in_subfolder(name)), like)
        except OSError as error:
            raise CheckpointError(f"{path}: {one_line(error)}") from error
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def mark_damaged(self, name: str) -> None:
        """Rename a checkpoint that does not load, so that it stays for inspection and is not read again."""
        with suppress(OSError):
            self.folder.rename(_in_subfolder(name), _in_subfolder(name + DAMAGED))

    def delete_checkpoints(self, names: Iterable[str]) -> None:
        """Delete checkpoints that no trial resumes from. A file that stays is deleted with the study."""
        for name in names:
            with suppress(OSError):
                self.folder.delete(_in_subfolder(name))

    def delete_checkpoints_of(self, stage: Stage, numbers: Iterable[int]) -> None:
        """Delete all checkpoints of trials that have ended."""
        for number in numbers:
            with suppress(OSError):
                for path in self.folder.list(_in_subfolder(f"{stage}-{number:04d}-*.safetensors")):
                    self.folder.delete(path)

    def leftovers(self) -> list[str]:
        """Return the files to delete unless a trial still needs them.

        These are weights, checkpoints except damaged ones, and the partial files of killed workers.
        """
        checkpoints = self.folder.list(_in_subfolder("*"))
        return [
            *self.folder.list("*.safetensors"),
            *self.folder.list(".trial-*"),
            *(path for path in checkpoints if not path.endswith(DAMAGED)),
        ]

    def sweep(self, leftovers: Iterable[str]) -> None:
        """Delete these files, and the folder of checkpoints once it is empty."""
        for path in leftovers:
            with suppress(OSError):
                self.folder.delete(path)
        with suppress(OSError):
            self.folder.delete_empty(CHECKPOINTS)


def _in_subfolder(name: str) -> str:
    return f"{CHECKPOINTS}/{name}"
