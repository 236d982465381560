"""The files of a study's trials: checkpoints of open trials, and weights of fully trained models.

A file name holds the token of the lease under which the file was written. A worker that lost a trial
therefore cannot overwrite the files of the trial's next owner.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.names import weights_name
from hpo.errors import ArtifactError
from hpo.store.checkpoints import Checkpoint
from hpo.study.schedule import LeasedTrial
from hpo.values.stage import Stage
from hpo.values.state import Arrays, SessionState, StateError
from hpo.worker.checkpoints import CheckpointError, decode_state, encode_arrays, encode_state

CHECKPOINTS = "checkpoints"
"""The first part of the names of checkpoints. `Checkpoint.file` omits it, also in the database."""

SUFFIX, DAMAGED = ".safetensors", ".damaged"


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """The checkpoints and weights of one study. A method that saves or loads raises `ArtifactError`.

    A method that deletes leaves what it cannot delete. `Worker` tries again at the end of a stage.
    """

    store: ArtifactStore

    def save_weights(self, trial: LeasedTrial, weights: Arrays) -> str:
        """Write the state dict of a fully trained model, and return the name of the file."""
        name = weights_name(trial.number, trial.lease.token)
        self.store.put(name, encode_arrays(weights))
        return name

    def save_checkpoint(self, stage: Stage, trial: LeasedTrial, state: SessionState) -> str:
        """Write the state of a member, and return the name of the checkpoint."""
        name = f"{stage}-{trial.number:04d}-{trial.lease.token}-{state.epochs:04d}{SUFFIX}"
        self.store.put(_artifact(name), encode_state(state))
        return name

    def load_checkpoint(self, checkpoint: Checkpoint, check: Callable[[SessionState], None]) -> SessionState:
        """Return the state in a checkpoint. `check` raises `StateError` if it does not fit the session.

        Raises `CheckpointError` if the checkpoint was read and does not decode or fit.
        """
        artifact = _artifact(checkpoint.file)
        data = self.store.get(artifact)
        try:
            state = decode_state(data, checkpoint.epoch)
            check(state)
        except (CheckpointError, StateError) as error:
            raise CheckpointError(f"{artifact}: {error}") from error
        return state

    def set_aside(self, name: str) -> None:
        """Give a checkpoint that does not decode another name: it stays for inspection and is not read again.

        Without room for the copy, the checkpoint keeps its name.
        """
        with suppress(ArtifactError):
            self.store.put(_artifact(name + DAMAGED), self.store.get(_artifact(name)))
            self.store.delete(_artifact(name))

    def delete_checkpoints(self, names: Iterable[str]) -> None:
        """Delete checkpoints that no trial resumes from."""
        for name in names:
            with suppress(ArtifactError):
                self.store.delete(_artifact(name))

    def delete_checkpoints_of(self, stage: Stage, numbers: Iterable[int]) -> None:
        """Delete all checkpoints of trials that have ended."""
        for number in numbers:
            with suppress(ArtifactError):
                for artifact in self.store.list(_artifact(f"{stage}-{number:04d}-")):
                    if artifact.endswith(SUFFIX):
                        self.store.delete(artifact)

    def leftovers(self) -> list[str]:
        """Return the artifacts to delete unless a trial still needs them; none if the store is away.

        These are weights, checkpoints except damaged ones, and the partial files of killed workers.
        """
        try:
            artifacts = self.store.list()
        except ArtifactError:
            return []
        return [artifact for artifact in artifacts if _is_leftover(artifact)]

    def sweep(self, leftovers: Iterable[str]) -> None:
        """Delete these artifacts."""
        for artifact in leftovers:
            with suppress(ArtifactError):
                self.store.delete(artifact)


def _artifact(name: str) -> str:
    return f"{CHECKPOINTS}/{name}"


def _is_leftover(artifact: str) -> bool:
    folder, _, name = artifact.rpartition("/")
    if folder == CHECKPOINTS:
        return not name.endswith(DAMAGED)
    return not folder and (name.endswith(SUFFIX) or name.startswith(".trial-"))
