"""The database URL of the settings."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from hpo.errors import InputError
from hpo.settings import Settings, read_secret


def parse_url(settings: Settings) -> URL | None:
    """Return the database URL of the settings with its password, or None for the embedded server.

    Raises `InputError` for anything but Postgres.
    """
    if settings.storage_url is None:
        return None
    try:
        url = make_url(settings.storage_url.get_secret_value())
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise InputError(
            "HPO_STORAGE_URL: not a database URL; the form is postgresql://user:password@host:5432/database"
        ) from None  # the cause may quote a part of the password
    backend = url.get_backend_name()
    if backend == "sqlite":
        raise InputError(
            "HPO_STORAGE_URL: sqlite is refused: it locks the whole file for each write, so parallel workers "
            "fail with 'database is locked'; give a postgresql:// URL, or unset it to use the embedded server"
        )
    if backend not in ("postgresql", "postgres"):
        raise InputError(f"HPO_STORAGE_URL: {backend!r} is not supported; give a postgresql:// URL")
    if "@" in (url.host or "") or "password" in url.query:
        # Messages show the whole URL except a password between user and host.
        raise InputError(
            "HPO_STORAGE_URL: the password must stand between user and host, with '%40' for '@'; "
            "or put it in a file and name that in HPO_STORAGE_PASSWORD_FILE"
        )
    url = url.set(drivername="postgresql+psycopg2")
    if settings.storage_password_file is not None and url.password is None:
        url = url.set(password=read_secret(settings.storage_password_file, "HPO_STORAGE_PASSWORD_FILE"))
    return url
