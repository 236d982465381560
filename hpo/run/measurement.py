"""What a few epochs of a study's network take on this machine, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pace:
    """The device seconds of one member's epoch on all images of a stage, in packs of `width`.

    `prepare_seconds` went into compiling and comparing ways to compute the steps. They are near 0 if this
    machine has done so before.
    """

    batch_size: int
    width: int
    train_seconds: float
    evaluation_seconds: float
    prepare_seconds: float

    @property
    def seconds(self) -> float:
        """Return the device seconds of training and evaluation together."""
        return self.train_seconds + self.evaluation_seconds


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a study on one device.

    `start_seconds`: from the start of the process to the first step, without `prepare_seconds`. `search` has
    a pace for each of a few pack keys, `full` one for each phase of full training. Sizes are in bytes: of the
    state of a trial of each stage, and of the weights that a full training leaves.
    """

    start_seconds: float
    search: Sequence[Pace]
    full: Sequence[Pace]
    state_bytes: int
    full_state_bytes: int
    weights_bytes: int

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Measurement":
        """Return the measurement of a child process."""
        paces = {stage: [Pace(**pace) for pace in plain[stage]] for stage in ("search", "full")}
        return cls(**{**plain, **paces})

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FunctionMeasurement:
    """What one epoch of a training function took. `state_bytes`: what the function saved, 0 if nothing."""

    start_seconds: float
    epoch_seconds: float
    state_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain values."""
        return asdict(self)
