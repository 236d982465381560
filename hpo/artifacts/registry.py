"""The artifact stores by the scheme of their URL. To add a store, add its file and one line here."""

import re
from collections.abc import Mapping
from importlib import import_module
from uuid import uuid4

from hpo.artifacts.base import ArtifactStore, check_name
from hpo.errors import AwayError, InputError
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


def probe_artifacts(settings: Settings) -> None:
    """Write a file and delete it. Raises `InputError` if HPO_ARTIFACTS is a store that cannot be written."""
    store = open_artifacts(settings, f"probe-{uuid4().hex[:8]}")
    try:
        store.put("probe", b"")
        store.delete("probe")
    except AwayError as error:
        unset = " (the default, since it is unset)" if settings.artifacts is None else ""
        raise InputError(
            f"HPO_ARTIFACTS = {settings.artifacts_location!r}{unset}: cannot be written: {error}; "
            "set it to a folder for checkpoints and weights"
        ) from error
