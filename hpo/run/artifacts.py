"""The artifact store of a study on this machine."""

import logging

from hpo.artifacts.registry import open_artifacts, probe_artifacts
from hpo.errors import AwayError
from hpo.run.retry import until_storage_answers
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study.artifacts_mark import check_mark
from hpo.study.study import Study

log = logging.getLogger("hpo.worker")


def check_artifacts(storage: Storage, study: Study, settings: Settings) -> None:
    """Check that HPO_ARTIFACTS can be written, and is the store that the study's other workers use.

    Raises `InputError` otherwise.
    """
    probe_artifacts(settings)
    artifacts = open_artifacts(settings, study.artifacts_name)
    until_storage_answers(lambda: check_mark(storage, study, artifacts, settings.artifacts_location))


def check_launched_artifacts(storage: Storage, study: Study, settings: Settings) -> None:
    """Check the same for a worker whose launcher has done so.

    A store that is away now may come back, and training needs none until then.
    """
    artifacts = open_artifacts(settings, study.artifacts_name)
    try:
        until_storage_answers(lambda: check_mark(storage, study, artifacts, settings.artifacts_location))
    except AwayError as error:
        log.warning("the artifact store is away: %s; training goes on", error)
