"""What a study keeps in files: checkpoints of open trials, and the weights of fully trained models.

Files are safetensors, written whole or not at all, and there after a power cut. A name holds the token of the
lease it was written under, so that a worker that lost its trial cannot overwrite what its successor wrote.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState, Progress
from hpo.training.pack import Tensors, Weights
from hpo.values.stage import Stage

PROGRESS = "progress"
"""The key of a checkpoint's metadata."""


class CheckpointError(Exception):
    """A file that is not there, damaged, or not of this network."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The files of one study in `folder`. What writes raises OSError."""

    folder: Path

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def save_weights(self, trial: LeasedTrial, weights: Mapping[str, Tensor]) -> str:
        """Writes the state dict of a fully trained model; gives its name in the folder."""
        name = f"trial-{trial.number:04d}-{trial.lease.token}.safetensors"
        _write(self.folder / name, weights)
        return name

    def save_checkpoint(self, stage: Stage, trial: LeasedTrial, state: MemberState) -> str:
        """Writes what a trial goes on from; gives the name to load it by."""
        epochs = state.progress.epochs
        name = f"{stage}-{trial.number:04d}-{trial.lease.token}-{epochs:04d}.safetensors"
        _write(self._checkpoints / name, dict(_flat(state)), {PROGRESS: json.dumps(asdict(state.progress))})
        return name

    def load_checkpoint(self, name: str, like: Weights) -> MemberState:
        """What `save_checkpoint` wrote, for the network with weights `like`. Raises `CheckpointError`."""
        path = self._checkpoints / name
        try:
            with safe_open(path, framework="pt") as file:
                progress = _progress((file.metadata() or {})[PROGRESS])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return _state(progress, tensors, like)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: {' '.join(str(error).split()) or type(error).__name__}"
            ) from error

    def set_aside(self, name: str) -> None:
        """Keeps a checkpoint that does not load for whoever wants to know why, out of the way."""
        with suppress(OSError):
            (self._checkpoints / name).rename(self._checkpoints / f"{name}.damaged")

    def discard(self, names: Iterable[str]) -> None:
        """Deletes checkpoints that nobody will go on from. What cannot be deleted goes with the study."""
        for name in names:
            with suppress(OSError):
                (self._checkpoints / name).unlink()

    def discard_of(self, stage: Stage, numbers: Iterable[int]) -> None:
        """Deletes all checkpoints of trials that have ended."""
        for number in numbers:
            with suppress(OSError):
                for path in self._checkpoints.glob(f"{stage}-{number:04d}-*.safetensors"):
                    path.unlink()

    def leftovers(self) -> list[Path]:
        """The files that belong to open trials or to nobody, unless a trial names them as its weights.

        Those of checkpoints, but for the ones set aside, weights, and what was being written when a worker
        was killed.
        """
        found = [*self.folder.glob("*.safetensors"), *self.folder.glob(".trial-*")]
        return [*found, *(path for path in self._checkpoints.glob("*") if path.suffix != ".damaged")]

    def sweep(self, leftovers: Iterable[Path]) -> None:
        """Deletes these files, and the folder of checkpoints once it is empty."""
        for path in leftovers:
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self._checkpoints.rmdir()


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)  # workers of other users may take over
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)


def _flat(state: MemberState) -> Iterator[tuple[str, Tensor]]:
    for part, weights in (("weights", state.weights), ("best", state.best)):
        if weights is not None:
            yield f"{part}.parameters", weights.parameters
            yield from ((f"{part}.buffers.{name}", tensor) for name, tensor in weights.buffers.items())
    for name, tensor in (state.optimizer or {}).items():
        yield f"optimizer.{name}", tensor


def _progress(text: str) -> Progress:
    values = json.loads(text)
    return Progress(**{field.name: values[field.name] for field in fields(Progress)})


def _state(progress: Progress, tensors: Tensors, like: Weights) -> MemberState:
    def weights(part: str) -> Weights | None:
        found = _within(tensors, f"{part}.")
        if not found:
            return None
        if found["parameters"].shape[1:] != like.parameters.shape[1:]:
            raise ValueError(f"{part}: not of this network")
        buffers = _within(found, "buffers.")
        if {n: t.shape[1:] for n, t in buffers.items()} != {n: t.shape[1:] for n, t in like.buffers.items()}:
            raise ValueError(f"{part}: its buffers are not of this network")
        # In the network's order: a file has one of its own.
        return Weights(found["parameters"], {name: buffers[name] for name in like.buffers})

    own = weights("weights")
    if own is None:
        raise ValueError("no weights in it")
    return MemberState(progress, own, weights("best"), _within(tensors, "optimizer.") or None)


def _within(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
