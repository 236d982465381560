"""A whole study in one call, and the worker processes that train it."""
