"""Run a program as an unprivileged user: `python as_account.py UID GID FOLDER PROGRAM ARGUMENT...`.

A stand-alone script with which root runs PostgreSQL. FOLDER may lie below folders that only root may enter,
such as /root. The modes of these folders do not change. If necessary, the program keeps one capability: to
read any file and enter any folder, or, where a container withholds this capability, to ignore file
permissions.
"""

import ctypes
import errno
import os
import sys

KEEP_CAPABILITIES, SECURE_BITS, AMBIENT, AMBIENT_RAISE = 8, 28, 47, 2  # prctl(2)
VERSION = 0x20080522  # capget(2)
OTHERWISE = "run hpo as an ordinary user, or set HPO_STORAGE_URL to a PostgreSQL server"
OVERRIDE, READ_AND_SEARCH, CHANGE_CAPABILITIES = 1, 2, 8  # capabilities(7)
NO_FIXUP = 1 << 2  # SECBIT_NO_SETUID_FIXUP, capabilities(7)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def run_as(uid: int, gid: int, folder: str, program: list[str]) -> str:
    """Become the user and replace this process by `program`. Return the reason if this fails."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(KEEP_CAPABILITIES, 1, 0, 0, 0)
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        return f"root cannot become user {uid} ({error.strerror}): {OTHERWISE}"
    reason = "Permission denied"
    for capability in (None, READ_AND_SEARCH, OVERRIDE):
        if capability is not None and (libc is None or not _keep(libc, capability)):
            continue
        try:
            os.chdir(folder)
            # PostgreSQL's programs ask the same about themselves.
            if not os.access(program[0], os.R_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program[0])
            os.execv(program[0], program)
        except PermissionError as error:
            reason = f"{error.filename or program[0]}: {error.strerror}"
    return f"user {uid} cannot reach {reason}: {OTHERWISE}"


def _keep(libc: ctypes.CDLL, capability: int) -> bool:
    """Give one capability to this process and to the program that replaces it. Return whether this worked."""
    header, sets = _Header(VERSION, 0), (_Capabilities * 2)()
    if libc.capget(ctypes.byref(header), sets):
        return False
    sets[0].effective = 1 << CHANGE_CAPABILITIES & sets[0].permitted
    if not libc.capset(ctypes.byref(header), sets):
        # Without this, access(2) answers an ordinary user as if he had no capability.
        libc.prctl(SECURE_BITS, NO_FIXUP, 0, 0, 0)
    sets[0].effective = sets[0].inheritable = 1 << capability
    sets[1].effective = sets[1].inheritable = 0
    if libc.capset(ctypes.byref(header), sets):
        return False
    libc.prctl(AMBIENT, 4, 0, 0, 0)  # clear all
    return not libc.prctl(AMBIENT, AMBIENT_RAISE, capability, 0, 0)


if __name__ == "__main__":
    sys.exit(run_as(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
