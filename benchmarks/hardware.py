"""The machine and the library versions that figures are measured with."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
LIBRARIES = ("hpo", "torch", "optuna")


def machine() -> str:
    """Return the number of cores and the processor, as in `2 cores, AMD EPYC`."""
    return f"{os.cpu_count()} cores, {_processor()}"


def libraries() -> dict[str, str]:
    """Return the versions of Python and of the libraries, by name."""
    return {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def in_words(versions: dict[str, str]) -> str:
    """Join versions as `Python 3.11.7, torch 2.14.1`."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def line() -> str:
    """Return machine and versions in one line."""
    return f"{machine()}; {in_words(libraries())}"


def _processor() -> str:
    if CPUINFO.is_file():
        for entry in CPUINFO.read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.machine()
