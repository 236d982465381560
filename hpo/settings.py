"""What the environment says: the one place in the service that reads it."""

import os
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hpo.errors import InputError

LEASE_SECONDS = 30.0
"""How long a worker may be silent, unless the user says otherwise."""


class Settings(BaseSettings):
    """Frozen values of the `HPO_*` variables; an empty variable counts as unset.

    storage_url             Postgres, `postgresql://user@host:port/database`; unset: the embedded server
    storage_password_file   a file that holds the password, so that the URL need not
    home                    the embedded server and compiled programs; by default also data and artifacts
    data_dir                image data sets
    artifacts               checkpoints, and weights of fully trained models
    lease_seconds           how long a worker may be silent before its trials go to others
    """

    model_config = SettingsConfigDict(env_prefix="HPO_", frozen=True, env_ignore_empty=True)

    storage_url: SecretStr | None = None
    storage_password_file: Path | None = None
    home: Path = user_data_path("hpo", appauthor=False)
    data_dir: Path | None = None
    artifacts: Path | None = None
    lease_seconds: float = Field(default=LEASE_SECONDS, ge=1, le=3600)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Reads the environment.

        Raises `InputError` for a bad value, and for a variable that is a misspelt one of ours: a wrong
        HPO_STORAGE_URL must not lead to the embedded server in silence.
        """
        known = [f"HPO_{name.upper()}" for name in cls.model_fields]
        for name in os.environ:
            near = get_close_matches(name, known, n=1, cutoff=0.85)
            if name.startswith("HPO_") and name not in known and near:
                raise InputError(f"{name}: unknown variable; did you mean {near[0]}?")
        try:
            return cls()
        except ValidationError as error:
            mistake = error.errors()[0]
            name = f"HPO_{str(mistake['loc'][0]).upper()}"
            raise InputError(f"{name}: {mistake['msg']}; it is {os.environ[name]!r}") from error

    @cached_property
    def data_path(self) -> Path:
        return (self.data_dir or self.home / "data").expanduser().absolute()

    @cached_property
    def artifacts_path(self) -> Path:
        return (self.artifacts or self.home / "artifacts").expanduser().absolute()

    @cached_property
    def programs_path(self) -> Path:
        """The folder of what has been compiled on this machine."""
        return (self.home / "programs").expanduser().absolute()

    @cached_property
    def server_path(self) -> Path:
        """The folder of the embedded PostgreSQL."""
        return (self.home / "postgres").expanduser().absolute()


def visible_devices() -> list[str] | None:
    """The GPUs an outer `CUDA_VISIBLE_DEVICES` leaves to this process (ordinals or UUIDs), None if unset."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with `changes`, for a process it starts."""
    return {**os.environ, **changes}
