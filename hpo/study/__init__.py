"""Transactions on a study: create, claim, pause, promote, fork, stop, and look."""
