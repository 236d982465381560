"""What makes trials comparable besides the study file: the data, and the code of the user's own network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpo.data.dataset import DataHashes

DATA, NETWORK = "hpo:data", "hpo:network"
"""Attributes of a stored study."""

SHORT = 12
"""Digits of a hash in a message."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first part in which two identities differ. `key`: the key of the study file that names it."""

    key: str
    part: str
    stored: str
    present: str

    def describe(self, study: str) -> str:
        """Return both hashes as a clause. `study`: the name of the stored study."""
        stored, present = self.stored[:SHORT], self.present[:SHORT]
        return f"the hash of its {self.part} is {present}, in the stored study {study!r} it is {stored}"


@dataclass(frozen=True, slots=True)
class Identity:
    """The hashes of a study's data, and of the code of a user's own network.

    `data` is None where it is unknown, as in studies of a version that stored none. `network` is None there,
    and for a network of hpo's own.
    """

    data: DataHashes | None = None
    network: str | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "Identity":
        """Return the identity in the attributes of a stored study."""
        data = attributes.get(DATA)
        return cls(None if data is None else DataHashes(**data), attributes.get(NETWORK))

    def to_attributes(self) -> dict[str, Any]:
        """Return the attributes of a stored study. An unknown hash has none."""
        data = {} if self.data is None else {DATA: asdict(self.data)}
        return data if self.network is None else {**data, NETWORK: self.network}

    def difference(self, present: "Identity") -> Difference | None:
        """Return how `present` differs from this identity; a hash that either lacks is not compared."""
        if self.data is not None and present.data is not None:
            for field, part in (
                ("train", "training images or labels"),
                ("test", "test images or labels"),
                ("content", "classes"),  # the hash of both parts and the classes
            ):
                old, new = getattr(self.data, field), getattr(present.data, field)
                if old != new:
                    return Difference("data.name", part, old, new)
        if None not in (self.network, present.network) and self.network != present.network:
            return Difference("model.name", "code", str(self.network), str(present.network))
        return None


UNKNOWN = Identity()
