"""A slot: room for one worker, on a device with the environment that pins a process to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker. `device` is what the worker calls it, `environment` what makes it that."""

    device: str
    label: str
    environment: Mapping[str, str] = field(default_factory=dict)


def common_environment(slots: Sequence[Slot]) -> dict[str, str]:
    """What the environments of all the slots agree on."""
    return dict(set.intersection(*(set(slot.environment.items()) for slot in slots)))
