"""A database of version 0.1."""

import gzip
from pathlib import Path

import psycopg2
from sqlalchemy import URL

DUMP = Path(__file__).parents[1] / "fixtures" / "database-0.1.sql.gz"
"""The finished study `quickstart`, and `half`, in the middle of its search.

The killed worker of `half` is taken to be dead when the dump is restored. The checkpoint files are not there,
so trials with a checkpoint start over.
"""


def restore(database: URL) -> None:
    """Load the dump into an empty database."""
    connection = psycopg2.connect(database.set(drivername="postgresql").render_as_string(hide_password=False))
    with connection, connection.cursor() as cursor:
        cursor.execute(gzip.decompress(DUMP.read_bytes()).decode())
        cursor.execute("UPDATE hpo.lease SET expires = to_timestamp(0) WHERE worker IS NOT NULL")
        cursor.execute("UPDATE hpo.worker SET expires = to_timestamp(0)")
    connection.close()
