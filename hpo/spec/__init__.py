"""The study file: sections, validation, messages."""
