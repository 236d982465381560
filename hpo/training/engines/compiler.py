"""Compiles programs in a separate process, and keeps the results for all workers of a machine.

python -m hpo.training.engines.compiler PROGRAM FILE
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
from hpo.errors import HpoError, one_line
from hpo.ownership import make_file
from hpo.settings import PYTHON, child_environment
from hpo.training.engines.kernels.build import BuildError, source_digest
from hpo.training.engines.kernels.operators import load
from hpo.training.engines.program import Program, digest, trace

OPTIONS = {
    "cpp.enable_floating_point_contract_flag": "fast",  # fused multiply-add
    "cpp.vec_isa_ok": True,  # trust the CPU's flags: trying every instruction set takes five seconds
    "cpp.threads": 1,  # a worker has one core, and results must not depend on the number of threads
    # Building precompiled headers takes as long as they save in ten programs. It needs openssl, and leaves
    # 290 MB in /tmp.
    "aot_inductor.precompile_headers": False,
}


ENVIRONMENT = ("TORCHINDUCTOR_", "AOTI_", "ATEN_CPU_CAPABILITY")
"""The beginnings of the names of environment variables that change what the compiler makes of a program."""

OWN_ENVIRONMENT = ("TORCHINDUCTOR_COMPILE_THREADS", "TORCHINDUCTOR_CACHE_DIR")
"""Those that `_compile` sets itself."""


class CompileError(HpoError):
    """A program cannot be compiled on this machine. The message is one line."""


def obtain(program: Program, folder: Path) -> Path:
    """Return the file of the compiled program; compile it first if `folder` does not have it.

    Another process that needs the same program waits. Raises CompileError.
    """
    _load_kernels(folder)  # the program calls them
    path = _path(program, folder, _program_digest(program, folder), ".so")
    make_file(path.with_suffix(".lock"))
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _compile(program, path)
    return path


def note_of(program: Program, folder: Path, *options: object) -> Path:
    """Return the file in `folder` for notes on the program under `options`.

    The name differs for another CPU, torch version or source. Raises CompileError if the network cannot be
    traced.
    """
    if program.network.is_built_in:
        return _path(program, folder, _source_digest(program, *options), ".json")
    return _path(program, folder, _traced_digest(program, folder, *options), ".json")


def _path(program: Program, folder: Path, digest: str, suffix: str) -> Path:
    return folder / f"{program.network.model.replace(':', '.')}-{digest}{suffix}"


def _program_digest(program: Program, folder: Path) -> str:
    """Return the digest of the traced program.

    For built-in networks it is cached in a file, because tracing takes a second, most of it for imports.
    """
    if not program.network.is_built_in:
        return _traced_digest(program, folder)  # the modules that a user's module imports are unknown
    cache = folder / f"{_source_digest(program)}.digest"
    try:
        if not cache.exists():
            temporary = cache.with_suffix(f".{os.getpid()}")
            temporary.write_text(_traced_digest(program, folder))
            temporary.replace(cache)
        return cache.read_text()
    except OSError as error:
        raise CompileError(f"{folder} cannot be used: {error}") from error


def _load_kernels(folder: Path) -> None:
    try:
        load(folder)
    except BuildError as error:
        raise CompileError(str(error)) from error
    except OSError as error:
        raise CompileError(f"{folder} cannot be used: {error}") from error


def _traced_digest(program: Program, folder: Path, *options: object) -> str:
    _load_kernels(folder)  # tracing needs the registered operators
    try:
        return digest(program, *OPTIONS.items(), *_environment(), *options)
    except Exception as error:  # a user's network may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise CompileError(f"{program.network.model} cannot be traced: {reason}") from error


def _source_digest(program: Program, *options: object) -> str:
    """Return a digest of all sources that a program of a built-in network depends on."""
    sha = hashlib.sha256(repr((source_digest(), program, OPTIONS, _environment(), options)).encode())
    for source in sources():
        sha.update(source.read_bytes())
    return sha.hexdigest()[:16]


def sources() -> list[Path]:
    """Return the sources that a program of a built-in network may depend on."""
    training, networks = Path(__file__).parents[1], Path(models.__file__).parent
    return sorted(
        [*training.rglob("*.py"), *networks.glob("*.py"), *training.with_name("values").glob("*.py")]
    )


def _environment() -> list[tuple[str, str]]:
    """Return the environment variables that change what the compiler makes of a program."""
    return sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(ENVIRONMENT) and name not in OWN_ENVIRONMENT
    )


def _compile(program: Program, path: Path) -> None:
    # The compiler gets one thread, because more would take cores from workers. Its cache helps with later
    # programs.
    environment = child_environment(
        OMP_NUM_THREADS="1",
        TORCHINDUCTOR_COMPILE_THREADS="1",
        TORCHINDUCTOR_CACHE_DIR=str(path.parent / "inductor"),
    )
    command = (*PYTHON, "-m", "hpo.training.engines.compiler", program.to_json(), str(path))
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
        output = process.communicate()[1]
    except BaseException:  # such as the signal that stops the worker
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        last = (output.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise CompileError(f"{program.network.model} cannot be compiled: {last}")


def main() -> None:
    program, path = Program.from_json(sys.argv[1]), Path(sys.argv[2])
    from torch._inductor import aot_compile

    torch.set_num_threads(1)
    load(path.parent)
    graph, arguments = trace(program)
    library = Path(str(aot_compile(graph, tuple(arguments), options=OPTIONS)))
    # The JSON file lists the program's calls of external operators, if there are any. It goes first, so that
    # both files exist once the library does.
    for source in (library.with_suffix(".json"), library):
        if source.exists():
            temporary = path.with_suffix(f".{os.getpid()}")
            shutil.copyfile(source, temporary)
            temporary.replace(path.with_suffix(source.suffix))


if __name__ == "__main__":
    main()
