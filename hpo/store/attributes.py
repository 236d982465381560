"""Values of Optuna's attributes, which every program with access to the database may write."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, text


def decode(value: str) -> Any:
    """Return the value of an attribute. A text that is not JSON is returned as it is."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def fixed_params(connection: Connection, trial_ids: Iterable[int]) -> dict[int, Mapping[str, Any]]:
    """Return the parameters that were passed to Optuna's `enqueue_trial`, by trial id.

    Optuna notes them as an attribute and sets no parameter. An attribute that is no mapping is left out.
    """
    rows = connection.execute(_FIXED_PARAMS, {"ids": list(trial_ids)})
    values = ((trial_id, decode(value)) for trial_id, value in rows)
    return {trial_id: value for trial_id, value in values if isinstance(value, Mapping)}


_FIXED_PARAMS = text("""
SELECT trial_id, value_json FROM trial_system_attributes
WHERE trial_id = ANY (:ids) AND key = 'fixed_params'
""")
