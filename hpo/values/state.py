"""The state that a member resumes from, as arrays whose meaning only its session knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """Everything a member needs to resume in any session of its kind, at the end of an epoch.

    `epochs`: the epochs trained so far. `meta`: JSON values by name.
    """

    epochs: int
    arrays: Arrays
    meta: Mapping[str, Any]


class StateError(Exception):
    """A state that does not fit the session, such as one of another network. The message is one line."""
