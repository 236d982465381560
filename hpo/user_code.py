"""The user's own code: import it, run it, and say in one line where it raised.

A user's module may be installed or lie in the current directory. That directory comes last in the import
path, so a file there hides neither an installed package nor a module of Python.
"""

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from hpo.errors import message_of

MAX_MESSAGE = 1000
"""The longest message of an exception that a line shows, in characters: some contain whole arrays."""

PACKAGE = Path(__file__).parent
STANDARD_LIBRARY = [
    *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")),
    *filter(None, sysconfig.get_config_vars("DESTSHARED")),
]
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def is_reference(text: str) -> bool:
    """Return whether a text has the form `package.module:Name`."""
    module, colon, name = text.partition(":")
    return bool(colon) and _are_names(*module.split("."), name) and not module.endswith(".py")


def near_reference(text: str) -> str | None:
    """Return the reference that was probably meant, such as `shapes:easy` for `shapes.py:easy` or
    `shapes.easy`, None if there is none."""
    path, colon, name = text.partition(":")
    if not colon:
        path, _, name = text.rpartition(".")
    module = path.removesuffix(".py").removeprefix("./").replace("/", ".")
    near = f"{module}:{name}"
    return near if is_reference(near) else None


def _are_names(*words: str) -> bool:
    return all(word.isidentifier() for word in words)


def import_own(reference: str, kind: type[Exception]) -> object:
    """Return the object that `reference`, as `package.module:Name`, names.

    Raises `kind` with one line if the module cannot be imported, has no such object, or is hidden by another
    module of the same name.
    """
    module, _, name = reference.partition(":")
    folder = _working_directory()
    if folder is None:
        raise kind(f"{reference}: the working directory has been deleted; change to another folder")
    _search(folder)
    owner = _owner(module, folder)
    if owner is not None:
        taken = f"the name {_top(module)!r} is taken by {owner}"
        raise kind(f"{reference}: {taken}; rename your module in {folder}")
    try:
        with user_code(f"{reference}: importing {module}", kind):
            imported = import_module(module)
    except kind as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module}.".startswith(f"{cause.name}."):
            raise kind(f"{reference}: {cause}; {module} has to be installed or in {folder}") from cause
        raise
    try:
        return getattr(imported, name)
    except AttributeError as error:
        raise kind(f"{reference}: {module} has no {name}") from error


@dataclass(frozen=True, slots=True)
class Running:
    """The user code that is running: what a message calls it, and the error to raise for its mistakes."""

    title: str
    kind: type[Exception]


class _Announcer:
    """Tells a listener which user code runs."""

    def __init__(self) -> None:
        self.current: Running | None = None
        self.listener: Callable[[Running | None], None] | None = None

    def tell(self, running: Running | None) -> None:
        self.current = running
        if self.listener is not None:
            self.listener(running)


_announcer = _Announcer()


def listen(listener: Callable[[Running | None], None]) -> None:
    """Let `listener` know which user code runs from then on, or None if none does.

    User code may end the process, so another process has to know beforehand.
    """
    _announcer.listener = listener


@contextmanager
def user_code(title: str, kind: type[Exception], module: str = "") -> Iterator[None]:
    """Raise `kind` with one line for any exception of the block, even SystemExit.

    `title`: the subject of the line. `module`: the user's module, if it may be installed. Interrupts pass
    unchanged, and so do exceptions of hpo that no line of the user's code has raised. The working directory
    is restored. The listener of `listen` hears when the block begins and ends.
    """
    folder, enclosing = _working_directory(), _announcer.current
    _announcer.tell(Running(title, kind))
    try:
        try:
            yield
        finally:
            if folder is not None and folder != _working_directory():
                os.chdir(folder)
    except BaseException as error:
        if _passes(error, module):
            raise
        raise kind(f"{title} raised {describe(error, module)}") from error
    finally:
        _announcer.tell(enclosing)


def describe(error: BaseException, module: str = "") -> str:
    """Return type, place and message of an error as one line."""
    place = where(error, module)
    reason = shorten(message_of(error))
    return type(error).__name__ + (f" at {place}" if place else "") + (f": {reason}" if reason else "")


def shorten(message: str) -> str:
    """Return a message as one line of at most `MAX_MESSAGE` characters."""
    line = " ".join(message.split())
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 4]} ..."


def where(error: BaseException, module: str = "") -> str | None:
    """Return file and line of the user's code that raised `error`, None if no user code was running.

    `module`: the user's module. Its package counts as user code even if it is installed.
    """
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{_short(error.filename)}:{error.lineno}"
    last = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, name = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
        if _is_own(file) or (module and _top(str(name)) == _top(module)):
            last = place(file, line)
    return last


def place_in_dump(dump: str) -> str | None:
    """Return file and line of the user's code in a traceback of `faulthandler`, None if there is none."""
    for file, line in re.findall(r'^  File "(.*)", line (\d+)', dump, re.MULTILINE):  # the latest call first
        if _is_own(file):
            return place(file, int(line))
    return None


def place(file: str, line: int) -> str:
    """Return file and line of the user's code, as messages have them."""
    return f"{_short(file)}:{line}"


def _is_own(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = Path(file)
    return not any(path.is_relative_to(folder) for folder in (str(PACKAGE), *INSTALLED))


def _short(file: str) -> str:
    path, folder = Path(file), _working_directory()
    return str(path.relative_to(folder) if folder is not None and path.is_relative_to(folder) else path)


def _working_directory() -> Path | None:
    """Return the working directory, None if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _passes(error: BaseException, module: str) -> bool:
    """Return whether an error that user code raised is no error of it."""
    if isinstance(error, KeyboardInterrupt):
        return True
    if _top(type(error).__module__) != "hpo":
        return False
    # A signal handler may raise an exception of hpo while user code runs: the worker has to stop.
    return not isinstance(error, Exception) or where(error, module) is None


def _top(module: str) -> str:
    return module.partition(".")[0]


def _search(folder: Path) -> None:
    """Append `folder` to the import path."""
    entry, checkout = str(folder), str(PACKAGE.parent)
    if entry in sys.path:
        return
    # In a checkout of hpo, the folders beside `hpo`, such as `models`, must not hide the user's modules.
    index = sys.path.index(checkout) if checkout in sys.path and checkout not in INSTALLED else len(sys.path)
    sys.path.insert(index, entry)


def _owner(module: str, folder: Path) -> str | None:
    """Return the owner of the module that hides the module in `folder`, None if nothing hides it."""
    path, top = folder.joinpath(*module.split(".")), _top(module)
    if not (path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file()):
        return None
    if _is_of_python(top):
        return "Python's standard library"
    try:
        spec = find_spec(top)
    except ValueError:  # a module without a spec, such as __main__
        return "the running program"
    if spec is None:
        return None
    places = {Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]}
    own = {(folder / top).resolve(), (folder / f"{top}.py").resolve()}
    return None if places & own else str(spec.origin or min(places))


def _is_of_python(top: str) -> bool:
    """Return whether Python has a module of this name on this system: winreg, for example, is of Windows."""
    if top not in sys.stdlib_module_names:
        return False
    return top in sys.builtin_module_names or PathFinder.find_spec(top, STANDARD_LIBRARY) is not None
