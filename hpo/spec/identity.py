"""What makes trials comparable besides the study file: the data, and the code of the user's network or
training function."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpo.data.dataset import DataHashes

DATA, NETWORK, FUNCTION = ATTRIBUTES = ("hpo:data", "hpo:network", "hpo:function")
"""Attributes of a stored study."""

CODE_KEYS = ("model.name", "train.function")
"""The keys of the study file that name the user's code."""

SHORT = 12
"""Digits of a hash in a message."""


CODE = "code"
"""The part of an identity that is neither images, labels nor classes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first part in which two identities differ. `key`: the key of the study file that names it."""

    key: str
    part: str
    stored: str
    present: str

    @property
    def is_of_code(self) -> bool:
        """Return whether the code differs. Otherwise the data do."""
        return self.part == CODE

    @property
    def way_back(self) -> str:
        """Return what makes the identities equal again, as a clause."""
        return "restore the code" if self.is_of_code else "restore the data"

    def describe(self, study: str) -> str:
        """Return both hashes as a clause. `study`: the name of the stored study."""
        stored, present = self.stored[:SHORT], self.present[:SHORT]
        return f"the hash of its {self.part} is {present}, in the stored study {study!r} it is {stored}"


@dataclass(frozen=True, slots=True)
class Identity:
    """The hashes of a study's data, and of the code of a user's own network or training function.

    `data` is None where it is unknown, as in studies of a version that stored none, and in a study of a
    training function. `network` is None there, and for a network of hpo's own. `function` is None for a study
    of a network, and for a function without a file.
    """

    data: DataHashes | None = None
    network: str | None = None
    function: str | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "Identity":
        """Return the identity in the attributes of a stored study."""
        data = attributes.get(DATA)
        hashes = None if data is None else DataHashes(**data)
        return cls(hashes, attributes.get(NETWORK), attributes.get(FUNCTION))

    def to_attributes(self) -> dict[str, Any]:
        """Return the attributes of a stored study. An unknown hash has none."""
        attributes = {
            DATA: None if self.data is None else asdict(self.data),
            NETWORK: self.network,
            FUNCTION: self.function,
        }
        return {name: value for name, value in attributes.items() if value is not None}

    def with_code_of(self, other: "Identity") -> "Identity":
        """Return the identity with the code of another one."""
        return replace(other, data=self.data)

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
        codes = ((self.network, present.network), (self.function, present.function))
        for key, (before, now) in zip(CODE_KEYS, codes, strict=True):
            if before is not None and now is not None and before != now:
                return Difference(key, CODE, before, now)
        return None


UNKNOWN = Identity()
