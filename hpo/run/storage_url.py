"""The URL of a storage, for other programs."""

from sqlalchemy.engine import make_url

from hpo.run.studies import settings_of
from hpo.store.connection import Storage, open_storage
from hpo.store.server import shown


class StorageUrl(str):
    """The URL of a storage as text.

    Its `repr` hides the password: notebooks, debuggers and messages show values in this form.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(make_url(self).render_as_string())


def url(storage: Storage | str | None = None) -> StorageUrl:
    """Return the URL of a storage for SQLAlchemy and Optuna: `optuna.load_study(..., storage=hpo.url())`.

    `storage`: an opened storage or a URL; without it that of HPO_STORAGE_URL, or the embedded server, which
    is started. The URL has a password only if the settings have one. Raises `InputError` and `StorageError`.
    """
    settings = settings_of(storage)
    if isinstance(storage, Storage):
        return StorageUrl(shown(storage.url))
    opened = open_storage(settings)
    opened.engine.dispose()
    return StorageUrl(shown(opened.url))
