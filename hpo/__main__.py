"""`python -m hpo`: the command line, also where the `hpo` script is not on the path."""

import os
import sys

try:
    folder = os.getcwd()  # noqa: PTH109
except FileNotFoundError:  # it has been deleted
    folder = ""
# `python -m` puts the current directory first, where a user's `queue.py` would hide that of Python.
if not sys.flags.safe_path and sys.path[0] == folder != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120
    del sys.path[0]

from hpo.cli import main

if __name__ == "__main__":
    main()
