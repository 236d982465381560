"""The versions of stored specs, and how a spec of each version is read."""

from collections.abc import Mapping
from typing import Any

from hpo.errors import SpecError

VERSION = 2
"""The version of the specs that this program stores. It grows when the meaning of a stored key changes.

A new key with a default needs no new version.
"""

_PRUNER_KEYS_1 = {
    "none": {"name"},
    "median": {"name", "startup_trials", "warmup_epochs"},
    "asha": {"name", "min_epochs", "reduction"},
    "hyperband": {"name", "min_epochs", "reduction"},
    "pause": {"name", "min_epochs", "reduction"},
}
"""The keys that each pruner read in version 1, whose section held the keys of all pruners."""


def with_version(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a spec with the current version, to be stored."""
    return {"version": VERSION, **plain}


def upgrade(stored: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the plain values of a stored spec of any version, in the form of the current version.

    Raises `SpecError` for a version that this program does not know; `source` begins the message.
    """
    plain = dict(stored)
    version = plain.pop("version", 1)  # version 1 had no such key
    if version not in range(1, VERSION + 1):
        raise SpecError(
            f"{source}: version = {version}: this version of hpo reads specs of versions up to {VERSION}; "
            "update hpo"
        )
    return _from_1(plain) if version == 1 else plain


def _from_1(plain: dict[str, Any]) -> dict[str, Any]:
    """Drop the keys of other pruners, which had no effect."""
    pruner = plain["pruner"]
    keys = _PRUNER_KEYS_1[pruner["name"]]
    return {**plain, "pruner": {key: value for key, value in pruner.items() if key in keys}}
