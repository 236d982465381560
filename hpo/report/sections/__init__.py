"""The sections of a report: each module makes one, or None if the study has nothing to show in it."""
