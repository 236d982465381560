"""The artifact stores by the scheme of their URL. To add a store, add its file and one line here."""

import re
from collections.abc import Mapping
from importlib import import_module

from hpo.artifacts.base import ArtifactStore, check_name
from hpo.errors import InputError
from hpo.settings import Settings

STORES: Mapping[str, str] = {
    "": "hpo.artifacts.folder:open_folder",
}
"""By scheme, the function that opens a store; a folder has no scheme. The function takes the value of
HPO_ARTIFACTS, and the study's name in it. Its module is imported when a store is opened."""


def open_artifacts(settings: Settings, study: str) -> ArtifactStore:
    """Open the store of a study's files; `study` is `Study.artifacts_name`.

    Nothing is written yet. Raises `InputError` if HPO_ARTIFACTS is a URL of a kind that no store is for, and
    `ArtifactNameError` if the database has a name that is none.
    """
    location = settings.artifacts_location
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    scheme = "" if match is None else match[1]
    if scheme not in STORES:
        urls = "".join(f" or {name}://..." for name in STORES if name)
        raise InputError(f"HPO_ARTIFACTS = {location!r}: must be a folder{urls}")
    module, _, attribute = STORES[scheme].partition(":")
    store: ArtifactStore = getattr(import_module(module), attribute)(location, check_name(study))
    return store
