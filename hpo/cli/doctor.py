"""Checks of the installation, each with advice on what to fix."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from sqlalchemy import text

from hpo.artifacts.registry import open_artifacts
from hpo.data.registry import is_present, names
from hpo.errors import HpoError, InputError
from hpo.launch.devices import slots
from hpo.settings import Settings, read_secret
from hpo.store.connection import open_storage
from hpo.values.wording import counted

PACKAGES = (
    "torch",
    "torchvision",
    "optuna",
    "optuna-dashboard",
    "sqlalchemy",
    "psycopg2-binary",
    "scikit-learn",
)

LEAST_FREE = 1e9
"""Bytes on the disk of `HPO_HOME` below which a study may end for lack of room."""


PASSWORD_FILE = "HPO_STORAGE_PASSWORD_FILE"
PASSWORD_ADVICE = f"set {PASSWORD_FILE} to a file with the password, or unset it"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `advice` is empty if nothing needs fixing."""

    subject: str
    good: bool
    says: str
    advice: str = ""

    def line(self) -> str:
        """Return the finding as a line of text."""
        mark = "ok  " if self.good else "FAIL"
        return f"{mark} {self.subject}: {self.says}" + (f" -> {self.advice}" if self.advice else "")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return asdict(self)


def examine(settings: Settings, device: bool = False) -> list[Finding]:
    """Return the findings of all checks. A failing check is a finding, not an exception.

    No check but that of the devices imports torch, and none reads images.
    """
    checks: list[Callable[[Settings], Finding]] = [_versions, _machine, _storage, _home, _artifacts, _data]
    if device:
        checks.append(_devices)
    return [check(settings) for check in checks]


def _versions(_settings: Settings) -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return Finding("versions", True, f"hpo {version('hpo')}, Python {platform.python_version()}, {packages}")


def _machine(_settings: Settings) -> Finding:
    workers = slots("cpu", None)
    threads = workers[0].environment["OMP_NUM_THREADS"]
    cores = f"by default {counted(len(workers), 'worker')} on the CPU, {counted(int(threads), 'thread')} each"
    return Finding("machine", True, f"{platform.system()} {platform.machine()}, {cores}")


def _home(settings: Settings, least_free: float = LEAST_FREE) -> Finding:
    home = settings.home.expanduser().absolute()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    says = f"{home}, {free / 1e9:.1f} GB free"
    advice = "set HPO_HOME to a folder that can be written to"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", False, f"{existing} cannot be written to", advice)
    if free < least_free:
        return Finding("home", False, says, "make room, or set HPO_HOME to a folder on another disk")
    return Finding("home", True, says)


def _storage(settings: Settings) -> Finding:
    embedded = settings.storage_url is None
    advice = (
        f"see {settings.server_path / 'log'}"
        if embedded
        else "check HPO_STORAGE_URL, and that Postgres runs there"
    )
    password_file = settings.storage_password_file
    try:
        if password_file is not None and not read_secret(password_file, PASSWORD_FILE):
            return Finding("storage", False, f"{PASSWORD_FILE}: {password_file} is empty", PASSWORD_ADVICE)
    except InputError as error:
        return Finding("storage", False, str(error), PASSWORD_ADVICE)
    if password_file is not None and embedded:
        says = f"{PASSWORD_FILE} is set, and HPO_STORAGE_URL is not"
        return Finding("storage", False, says, "set both, or none for the embedded server")
    try:
        storage = open_storage(settings)
        with storage.transaction() as connection:
            server = connection.execute(text("SHOW server_version")).scalar_one()
            limit = int(connection.execute(text("SHOW max_connections")).scalar_one())
            used = connection.execute(text("SELECT count(*) FROM pg_stat_activity")).scalar_one()
    except HpoError as error:
        # Without the embedded server's package there is no log, and the message has the advice.
        advice = "" if embedded and isinstance(error, InputError) else advice
        return Finding("storage", False, str(error), advice)
    location = f"embedded in {settings.server_path}" if embedded else storage.url.render_as_string()
    says = f"PostgreSQL {server}, {location}, {used} of {limit} connections in use"
    if used > 0.8 * limit:
        return Finding("storage", False, says, "raise max_connections: a worker needs up to three")
    return Finding("storage", True, says)


def _artifacts(settings: Settings) -> Finding:
    try:
        probe = open_artifacts(settings, ".doctor")
        probe.put("probe", b"")
        probe.delete("probe")
    except HpoError as error:
        advice = "set HPO_ARTIFACTS to a folder that can be written to"
        return Finding("artifacts", False, str(error), advice)
    return Finding("artifacts", True, settings.artifacts_location)


def _data(settings: Settings) -> Finding:
    """Find the data sets whose files are here. `digits` always is, so missing files are no failure."""
    folder = settings.data_path
    if settings.data_dir is not None and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        advice = "set HPO_DATA_DIR to the folder of the image data sets, or unset it"
        return Finding("data", False, f"HPO_DATA_DIR: {folder} is no folder that can be read", advice)
    present = [name for name in names() if is_present(name, folder)]
    only = f"only {present[0]} is here; " if len(present) == 1 else ""
    advice = "" if len(present) == len(names()) else f"{only}more: `hpo data fetch NAME`"
    return Finding("data", True, f"in {folder}: {', '.join(present)}", advice)


def _devices(_settings: Settings) -> Finding:
    import torch

    count = torch.cuda.device_count()
    cores = f"CPU with {counted(torch.get_num_threads(), 'thread')}"
    if count:
        gpus = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
        return Finding("devices", True, f"{gpus}; {cores}")
    return Finding("devices", True, cores, "no GPU is visible; workers run on the CPU")
