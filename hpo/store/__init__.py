"""Postgres: connection, schema, and the statements on studies, trials, leases and results."""
