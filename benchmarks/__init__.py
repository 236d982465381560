"""Each module prints a table; the figures in the README come from here."""
