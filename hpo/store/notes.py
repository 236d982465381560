"""What optuna-dashboard shows of a study beside its trials: a note, and the names of the objectives.

Every function is one step of the caller's transaction. None commits.
"""

import json

from sqlalchemy import Connection, text

LONGEST = 2045
"""Characters of a note in one attribute of optuna-dashboard."""


def name_objective(connection: Connection, study_id: int, name: str) -> None:
    """Give the objective of a study a name, as `optuna.Study.set_metric_names` does."""
    connection.execute(_SET, {"study": study_id, "key": "study:metric_names", "value": json.dumps([name])})


_SET = text("""
INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (:study, :key, :value)
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")


def write(connection: Connection, study_id: int, body: str) -> None:
    """Write the note of a study in Markdown, at most `LONGEST` characters of it.

    A note that a user has saved in the dashboard stays: each save raises the version of the note, and this
    function leaves the version at 0.
    """
    connection.execute(_WRITE, {"study": study_id, "body": json.dumps(body[:LONGEST])})


_WRITE = text("""
WITH version AS (
    INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (:study, 'dashboard:note_ver', '0')
    ON CONFLICT (study_id, key) DO NOTHING
)
INSERT INTO study_system_attributes (study_id, key, value_json)
SELECT :study, 'dashboard:note_str:0', :body
WHERE NOT EXISTS (
    SELECT FROM study_system_attributes
    WHERE study_id = :study AND key = 'dashboard:note_ver' AND value_json <> '0'
)
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")
