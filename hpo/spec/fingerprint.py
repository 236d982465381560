"""The fingerprint of a spec: a short hash of all keys whose values differ from their defaults."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hpo.values.section import Section

EXTENDABLE = frozenset({"search.trials", "promotion.top", "promotion.seeds"})
"""Keys that may grow in a stored study: growth adds trials and keeps the existing trials comparable."""

CHANGEABLE = frozenset({"stop", "export", "engine", "limits", "resources", "full.recipe", "full.refit"})
"""Sections and keys that may change in a stored study. A recipe presets other keys, which are compared."""


def fingerprint(keys: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the keys, in any order."""
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def without_defaults(section: Section, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `plain`, the plain values of `section`, that differ from their defaults.

    A later version may therefore add a key with a default: the fingerprint of a file without it stays.
    """
    kept: dict[str, Any] = {}
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if key not in plain:
            continue
        if isinstance(value, Section):
            inner = without_defaults(value, plain[key])
            if inner or value != field.default:
                kept[key] = inner
        elif key == "name" or value != field.default:  # a name stays: it says which keys its section has
            kept[key] = plain[key]
    return kept


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a spec by dotted key. A domain of the space and an empty section are values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and not prefix.startswith("space."):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def unchangeable(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a flat spec that must not change in a stored study."""
    return {
        key: value
        for key, value in flat.items()
        if key not in EXTENDABLE | CHANGEABLE and key.partition(".")[0] not in CHANGEABLE
    }
