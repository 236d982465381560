"""The storage and the studies that the environment variables name."""

from hpo.settings import Settings
from hpo.store.connection import Storage, open_storage
from hpo.study.stored import load
from hpo.study.study import Study


def open_study(name: str) -> tuple[Settings, Storage, Study]:
    """Return the settings, their storage, and a study in it. Raises `NotFoundError` without such a study."""
    settings = Settings.from_environment()
    storage = open_storage(settings)
    return settings, storage, load(storage, name)
