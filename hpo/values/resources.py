"""What a trial of a user's training function needs of a machine."""

import re
from dataclasses import dataclass

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
"""Bytes of a unit of memory."""

_MEMORY = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one trial needs. None: the study does not say.

    `gpus`: whole GPUs, or a share below 1 of one GPU. Where it is None, a trial gets one GPU where there are
    GPUs, and none elsewhere. `cpus`: CPU cores. `memory`: bytes.
    """

    gpus: float | None = None
    cpus: int | None = None
    memory: int | None = None


def parse_memory(text: str) -> int | None:
    """Return the bytes of a text such as "8 GB" or "512 MiB", None if it is no amount of at least a byte."""
    match = _MEMORY.fullmatch(text)
    if match is None or match[2].upper() not in UNITS:
        return None
    return round(float(match[1]) * UNITS[match[2].upper()]) or None
