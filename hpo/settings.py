"""What the environment says: the one place in the service that reads it."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from platformdirs import user_data_path
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hpo.errors import InputError


class Settings(BaseSettings):
    """Frozen values of the `HPO_*` variables; an empty variable counts as unset.

    storage_url             Postgres, `postgresql://user@host:port/database`; unset: the embedded server
    storage_password_file   a file that holds the password, so that the URL need not
    home                    the embedded server and, unless said otherwise, data and artifacts live here
    data_dir                image data sets
    artifacts               weights of fully trained models
    """

    model_config = SettingsConfigDict(env_prefix="HPO_", frozen=True, env_ignore_empty=True)

    storage_url: SecretStr | None = None
    storage_password_file: Path | None = None
    home: Path = user_data_path("hpo", appauthor=False)
    data_dir: Path | None = None
    artifacts: Path | None = None

    @classmethod
    def from_environment(cls, **given: Any) -> "Settings":
        """Read the environment; `given` values (from command line options) win.

        Raises `InputError` naming the variable.
        """
        try:
            return cls(**{key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = "HPO_" + "_".join(str(part) for part in first["loc"]).upper()
            raise InputError(f"{name}: {first['input']!r}: {first['msg']}") from error

    @cached_property
    def data_path(self) -> Path:
        return (self.data_dir or self.home / "data").expanduser().absolute()

    @cached_property
    def artifacts_path(self) -> Path:
        return (self.artifacts or self.home / "artifacts").expanduser().absolute()

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
