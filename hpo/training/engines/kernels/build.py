"""Builds the C++ kernels as a shared library on this machine."""

import hashlib
import os
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

from hpo.ownership import make_file, make_folder

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("convolution.cpp", "winograd.cpp", "pooling.cpp", "lanes.h", "winograd_transforms.h")
)

# Not -ffast-math: loading a library linked with it flushes denormal numbers to zero in the whole process.
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC")
LIBRARIES = ("-ltorch_cpu", "-lc10")


class BuildError(Exception):
    """The kernels cannot be built on this machine. The message is one line."""


def build(folder: Path) -> Path:
    """Return the shared library of the kernels; build it first if `folder` does not have it.

    Another process that needs the same library waits. Raises BuildError and OSError.
    """
    path = folder / f"kernels-{source_digest()}.so"
    make_folder(folder, 0o700)
    make_file(path.with_suffix(".lock"))
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            compile_library(path)
    return path


def compiler() -> str:
    """Return the command of the C++ compiler."""
    return os.environ.get("CXX", "g++")


def source_digest() -> str:
    """Return a digest of everything a build depends on: sources, flags, compiler, torch and kind of CPU.

    The kernels and the programs depend on the same compiler.
    """
    parts = (
        *(source.read_text() for source in SOURCES),
        *FLAGS,
        *LIBRARIES,
        compiler(),
        _version_of(compiler()),
        torch.__version__,
        cpu(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@cache
def _version_of(compiler: str) -> str:
    """Return what the compiler says of its version. Without a compiler, the build fails with the reason."""
    with suppress(OSError):
        return subprocess.run(
            [compiler, "--version"], text=True, capture_output=True, errors="replace"
        ).stdout
    return ""


def cpu() -> str:
    """Return the instruction set extensions of this CPU, as one line of /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return torch.backends.cpu.get_cpu_capability()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def compile_library(path: Path) -> None:
    """Compile the sources in parallel and link them to the shared library `path`. Raises BuildError."""
    torch_folder = Path(torch.__file__).parent
    units = [source for source in SOURCES if source.suffix == ".cpp"]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, ExitStack() as processes:
        objects = [Path(folder, f"{unit.stem}.o") for unit in units]
        include = f"-I{torch_folder / 'include'}"
        compilers = [
            _start(processes, *FLAGS, include, "-c", str(unit), "-o", str(target))
            for unit, target in zip(units, objects, strict=True)
        ]
        for unit, process in zip(units, compilers, strict=True):
            _finish(process, unit.name)
        library = Path(folder, path.name)
        options = ("-shared", f"-L{torch_folder / 'lib'}", *LIBRARIES)
        linker = _start(processes, *map(str, objects), "-o", str(library), *options)
        _finish(linker, path.name)
        library.replace(path)


def _start(processes: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """Start the compiler. It is killed when `processes` closes, such as when the worker is stopped.

    Raises BuildError.
    """
    try:
        process = subprocess.Popen(
            [compiler(), *arguments], text=True, stderr=subprocess.PIPE, errors="replace"
        )
    except OSError as error:
        raise BuildError(f"no C++ compiler: {compiler()}: {error.strerror}") from error
    processes.enter_context(process)
    processes.callback(process.kill)
    return process


def _finish(process: subprocess.Popen[str], target: str) -> None:
    """Wait until `target` is compiled or linked. Raises BuildError."""
    output = process.communicate()[1]
    if process.returncode != 0:
        reason = next((line for line in output.splitlines() if "error: " in line), output)
        raise BuildError(f"{compiler()} cannot build {target}: {' '.join(reason.split())}")
