"""Compiles programs, in a process of its own, and keeps what came out for all workers of a machine.

python -m hpo.compiler PROGRAM FILE
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from filelock import FileLock

from hpo import models
from hpo.errors import HpoError
from hpo.settings import child_environment
from hpo.training.engines.kernels import operators
from hpo.training.engines.program import Program, digest, trace

OPTIONS = {
    "cpp.enable_floating_point_contract_flag": "fast",  # a multiplication and an addition in one instruction
    "cpp.vec_isa_ok": True,  # as the CPU says: to try every instruction set out takes five seconds
    "cpp.threads": 1,  # a worker has a core; and so results do not depend on the number of threads
    # They take as long as they save in ten programs, need openssl, and leave 290 MB in /tmp.
    "aot_inductor.precompile_headers": False,
}


class CompileError(HpoError):
    """A program cannot be compiled here. The message is one line."""


def obtain(program: Program, folder: Path) -> Path:
    """The file of the compiled program, compiled first if `folder` does not have it.

    Another process that needs it too waits. Raises `CompileError`.
    """
    _load_kernels(folder)  # which the program calls
    path = _named(program, folder, _digest(program, folder), ".so")
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _compile(program, path)
    return path


def note_of(program: Program, folder: Path, *options: object) -> Path:
    """The file in `folder` for what is found out about the program with `options`.

    Another one for another CPU, torch or source. Raises `CompileError` for a network that cannot be traced.
    """
    if program.model in models.names():
        return _named(program, folder, _known(program, *options), ".json")
    return _named(program, folder, _traced(program, folder, *options), ".json")


def _named(program: Program, folder: Path, digest: str, suffix: str) -> Path:
    return folder / f"{program.model.replace(':', '.')}-{digest}{suffix}"


def _digest(program: Program, folder: Path) -> str:
    """The digest of the program, from a note beside it where that is sure to be right: to trace one takes a
    second, most of it to import what traces."""
    if program.model not in models.names():
        return _traced(program, folder)  # what a user's module imports is not known
    note = folder / f"{_known(program)}.digest"
    try:
        if not note.exists():
            made = note.with_suffix(f".{os.getpid()}")
            made.write_text(_traced(program, folder))
            made.replace(note)
        return note.read_text()
    except OSError as error:
        raise CompileError(f"{folder} cannot be used: {error}") from error


def _load_kernels(folder: Path) -> None:
    try:
        operators.load(folder)
    except operators.BuildError as error:
        raise CompileError(str(error)) from error
    except OSError as error:
        raise CompileError(f"{folder} cannot be used: {error}") from error


def _traced(program: Program, folder: Path, *options: object) -> str:
    _load_kernels(folder)  # a graph names them
    try:
        return digest(program, *OPTIONS.items(), *options)
    except Exception as error:  # a user's network may raise anything
        reason = " ".join(str(error).split())
        raise CompileError(f"{program.model} cannot be traced: {type(error).__name__}: {reason}") from error


def _known(program: Program, *options: object) -> str:
    """A digest of what a program of our own networks follows from."""
    found = hashlib.sha256(repr((operators.digest(), program, OPTIONS, options)).encode())
    for source in _sources():
        found.update(source.read_bytes())
    return found.hexdigest()[:16]


def _sources() -> list[Path]:
    training = Path(__file__).parents[1]
    return sorted([*training.rglob("*.py"), *Path(models.__file__).parent.glob("*.py")])


def _compile(program: Program, path: Path) -> None:
    # The compiler's own threads would take cores from workers; what it keeps helps with the next program.
    environment = child_environment(
        OMP_NUM_THREADS="1",
        TORCHINDUCTOR_COMPILE_THREADS="1",
        TORCHINDUCTOR_CACHE_DIR=str(path.parent / "inductor"),
    )
    command = (sys.executable, "-m", "hpo.training.engines.compiler", program.to_json(), str(path))
    process = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = process.communicate()[1]
    except BaseException:  # the worker is told to stop
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        last = (said.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise CompileError(f"{program.model} cannot be compiled: {last}")


def main() -> None:
    program, path = Program.from_json(sys.argv[1]), Path(sys.argv[2])
    from torch._inductor import aot_compile

    torch.set_num_threads(1)
    operators.load(path.parent)
    graph, arguments = trace(program)
    found = Path(str(aot_compile(graph, tuple(arguments), options=OPTIONS)))
    # Its calls of operators outside of it, if there are any, then the program: once that is there, both are.
    for source in (found.with_suffix(".json"), found):
        if source.exists():
            made = path.with_suffix(f".{os.getpid()}")
            shutil.copyfile(source, made)
            made.replace(path.with_suffix(source.suffix))


if __name__ == "__main__":
    main()
