"""What the figures were measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def line() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("hpo", "torch", "optuna"))
    return f"{os.cpu_count()} cores, {_processor()}; Python {platform.python_version()}, {packages}"


def _processor() -> str:
    if CPUINFO.is_file():
        for entry in CPUINFO.read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.machine()
