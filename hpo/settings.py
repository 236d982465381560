"""The `HPO_*` environment variables; no other module reads the environment."""

import os
import sys
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hpo.errors import InputError

LEASE_SECONDS = 30.0
"""Default time after which the leases of a silent worker run out."""

DASHBOARD_PASSWORD = ("HPO_DASHBOARD_PASSWORD", "HPO_DASHBOARD_PASSWORD_FILE")
"""The variables that no other process than the dashboard gets."""


def _default_home() -> Path:
    """Return `hpo` in the platform's folder for user data. Raises `InputError` for a user without a home."""
    try:
        return user_data_path("hpo", appauthor=False)
    except RuntimeError:
        raise InputError(
            "HPO_HOME: is not set, and this user has no home folder: set HPO_HOME to a folder of your own"
        ) from None


class Settings(BaseSettings):
    """The values of the `HPO_*` variables; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="HPO_", frozen=True, env_ignore_empty=True)

    storage_url: SecretStr | None = Field(
        default=None,
        description="Postgres, `postgresql://user@host:port/database`. Unset: the embedded server.",
    )
    storage_password_file: Path | None = Field(
        default=None, description="File that holds the password, so that the URL need not contain it."
    )
    home: Path = Field(
        default_factory=_default_home,
        description="Folder of the embedded server, of compiled programs and of mapped images. "
        "Unset: `hpo` in the platform's folder for user data.",
    )
    data_dir: Path | None = Field(
        default=None, description="Folder of the image data sets. Unset: `HPO_HOME/data`."
    )
    artifacts: str | None = Field(
        default=None,
        description="Folder of checkpoints and of weights of full trainings, shared by all machines. "
        "Unset: `HPO_HOME/artifacts`.",
    )
    dashboard_password: SecretStr | None = Field(
        default=None,
        description="Password of `hpo dashboard`. A file is safer: environment variables may leak.",
    )
    dashboard_password_file: Path | None = Field(
        default=None, description="File that holds the password of `hpo dashboard`."
    )
    lease_seconds: float = Field(
        default=LEASE_SECONDS,
        ge=1,
        le=3600,
        description="Seconds a worker may be silent before its trials go to other workers.",
    )

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the environment.

        Raises `InputError` for a bad value, and for a misspelled variable name: a mistyped HPO_STORAGE_URL
        must not select the embedded server silently.
        """
        known = [f"HPO_{name.upper()}" for name in cls.model_fields]
        for name in os.environ:
            matches = get_close_matches(name, known, n=1, cutoff=0.85)
            if name.startswith("HPO_") and name not in known and matches:
                raise InputError(f"{name}: unknown variable; did you mean {matches[0]}?")
        try:
            settings = cls()
        except ValidationError as error:
            mistake = error.errors()[0]
            name = f"HPO_{str(mistake['loc'][0]).upper()}"
            raise InputError(f"{name}: {mistake['msg']}; it is {os.environ[name]!r}") from error
        _check_homes(settings)
        return settings

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give another process these settings; those that are unset are empty.

        The password of the storage is in them. The password of the dashboard is left out: only the dashboard
        needs it.
        """
        variables = {}
        for name in type(self).model_fields:
            if f"HPO_{name.upper()}" in DASHBOARD_PASSWORD:
                continue
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            variables[f"HPO_{name.upper()}"] = "" if text is None else str(text)
        return variables

    def read_dashboard_password(self) -> str | None:
        """Return the password of the dashboard, None if there is none.

        Raises `InputError` if its file cannot be read or is empty, and if both variables are set.
        """
        secret, file = self.dashboard_password, self.dashboard_password_file
        if secret is not None and file is not None:
            raise InputError(f"{' and '.join(DASHBOARD_PASSWORD)}: both are set; unset one of them")
        if file is None:
            return None if secret is None else secret.get_secret_value()
        password = read_secret(file, DASHBOARD_PASSWORD[1])
        if not password:
            raise InputError(f"{DASHBOARD_PASSWORD[1]}: {file} is empty; write a password into it")
        return password

    @cached_property
    def data_path(self) -> Path:
        """Return the folder of the image data sets."""
        return (self.data_dir or self.home / "data").expanduser().absolute()

    @cached_property
    def arrays_path(self) -> Path:
        """Return the folder of the images that the processes of this machine map."""
        return (self.home / "arrays").expanduser().absolute()

    @cached_property
    def artifacts_location(self) -> str:
        """Return the folder of checkpoints and weights, or a URL that stands for one."""
        location = self.artifacts or str(self.home / "artifacts")
        return location if "://" in location else str(Path(location).expanduser().absolute())

    @cached_property
    def programs_path(self) -> Path:
        """Return the folder of the programs compiled on this machine."""
        return (self.home / "programs").expanduser().absolute()

    @cached_property
    def rehearsals_path(self) -> Path:
        """Return the folder of notes on networks that were tried on the devices of this machine."""
        return (self.home / "rehearsals").expanduser().absolute()

    @cached_property
    def logs_path(self) -> Path:
        """Return the folder of the lines of the workers that this machine has started."""
        return (self.home / "logs").expanduser().absolute()

    @cached_property
    def server_path(self) -> Path:
        """Return the folder of the embedded PostgreSQL."""
        return (self.home / "postgres").expanduser().absolute()


def _check_homes(settings: Settings) -> None:
    """Raise `InputError` for a folder below the home of a user who has none, such as `~nobody/hpo`."""
    for name in ("home", "data_dir", "artifacts"):
        value = str(getattr(settings, name) or "")
        try:
            Path(value).expanduser()
        except RuntimeError as error:
            raise InputError(
                f"HPO_{name.upper()}: {value!r} names a home folder that is not there"
            ) from error


def read_secret(path: Path, variable: str) -> str:
    """Return the text of a file without blanks at its ends. Raises `InputError`, which names the variable."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise InputError(f"{variable}: cannot read {path}: {reason}") from error


def visible_devices() -> list[str] | None:
    """Return the GPUs in `CUDA_VISIBLE_DEVICES` as ordinals or UUIDs, None if the variable is unset."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


PYTHON = (sys.executable, "-P")
"""The first words of the command of a child process.

Without `-P`, Python looks for modules in the current directory first, where a user's `queue.py` may lie.
"""


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process with `changes`, for a child process.

    The password of the dashboard is left out.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in DASHBOARD_PASSWORD}
    return {**inherited, **changes}
