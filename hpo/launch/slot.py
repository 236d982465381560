"""A slot: room for one worker on a device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker.

    `device` is torch's name of the device inside the worker's process. `environment` pins the process to it.
    `label` names the slot in the launcher's output.
    """

    device: str
    label: str
    environment: Mapping[str, str] = field(default_factory=dict)


def common_environment(slots: Sequence[Slot]) -> dict[str, str]:
    """Return the variables that are equal in the environments of all slots."""
    return dict(set.intersection(*(set(slot.environment.items()) for slot in slots)))
