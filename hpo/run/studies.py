"""Studies for Python programs: each one knows its storage. `hpo` exports these names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError

from hpo import models
from hpo.artifacts.registry import probe_artifacts
from hpo.errors import InputError, NotFoundError, UnavailableError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle_folder import check_folder
from hpo.export.function_bundle import FunctionBundle
from hpo.export.request import ExportRequest, check_model
from hpo.run.child import run_in_child
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store import connection
from hpo.store.connection import Storage
from hpo.study import best, create, retry, stored
from hpo.study import promote as promotion
from hpo.study.best import BestParams
from hpo.study.create import Creation
from hpo.study.promote import Promotion
from hpo.study.retry import Retry
from hpo.study.study import Study as StoredStudy
from hpo.values.exported import Exported
from hpo.values.stage import STAGES, Stage

if TYPE_CHECKING:
    import pandas as pd

    from hpo.export.bundle import Bundle

SpecLike = StudySpec | Mapping[str, Any] | Path | str
"""A spec, its plain values, or the path of a study file."""


@dataclass(frozen=True, slots=True)
class Study:
    """A stored study with its storage, as `create_study` and `load_study` return it.

    `stored` is the study as the functions of the package `hpo.study` take it.
    """

    stored: StoredStudy
    storage: Storage
    settings: Settings = field(repr=False)

    @property
    def name(self) -> str:
        """Return the name of the study."""
        return self.stored.name

    @property
    def spec(self) -> StudySpec:
        """Return the spec as it was when the study was created or loaded."""
        return self.stored.spec

    @property
    def search(self) -> optuna.Study:
        """Return the trials of the search as an Optuna study, for reading: `study.search.trials`."""
        return self._optuna(self.spec.name)

    @property
    def full(self) -> optuna.Study:
        """Return the full trainings as an Optuna study, for reading."""
        return self._optuna(self.spec.full_name)

    def trials_dataframe(self) -> pd.DataFrame:
        """Return a pandas data frame with a row for each trial of both stages.

        The columns of parameters are `params_NAME`, those of the metrics of the kept epoch `metrics_NAME`;
        `value` is the objective. Times are in UTC, `seconds` are device seconds. Trials of other programs are
        left out. Raises `InputError` if pandas is not installed.
        """
        from hpo.run.frames import trials_frame

        return trials_frame(self.storage, self.stored)

    def curves_dataframe(self) -> pd.DataFrame:
        """Return a pandas data frame with a row for each epoch of each trial of both stages.

        The columns of metrics are `metrics_NAME`. `time` is when the epoch was recorded, in UTC, `seconds`
        are its device seconds. Raises `InputError` if pandas is not installed.
        """
        from hpo.run.frames import curves_frame

        return curves_frame(self.storage, self.stored)

    def _optuna(self, name: str) -> optuna.Study:
        try:
            return self.storage.study(name)
        except KeyError as error:
            raise NotFoundError(f"study {self.name!r}: the study has been deleted") from error
        except StorageInternalError as error:
            raise UnavailableError(f"study {self.name!r}: the storage does not answer") from error


def open_storage(url: str | None = None) -> Storage:
    """Open the storage at a `postgresql://` URL, and make or migrate its tables.

    Without a URL: that of HPO_STORAGE_URL, or the embedded server. Raises `InputError` for anything but
    Postgres, and `StorageError`.
    """
    return connection.open_storage(settings_of(url))


def create_study(spec: SpecLike, storage: Storage | str | None = None) -> Study:
    """Store a study with its random plan, or update the stored study of that name to the spec.

    `storage`: an opened storage or a URL; without it, see `open_storage`. Nothing is trained. Raises
    `SpecError` with one line for each mistake, `InputError` if the network cannot learn the images or the
    training function cannot be called, and `ConflictError` if the stored trials would not be comparable with
    trials of the spec.
    """
    parsed, source = read_spec(spec)
    study, _ = store_study(parsed, source, storage)
    return study


def load_study(name: str, storage: Storage | str | None = None) -> Study:
    """Return the stored study of that name. Raises `NotFoundError`."""
    if not isinstance(name, str):
        raise InputError(f"the name of a study is a text, not a {type(name).__name__}")
    settings = settings_of(storage)
    opened = _open(storage, settings)
    return Study(stored.load(opened, name), opened, settings)


def promote(study: Study) -> Promotion:
    """Queue the best trials of a finished search for full training, once per seed. Idempotent.

    Raises `ConflictError` if the search is not finished, or if none of its trials completed.
    """
    return promotion.promote(_checked(study).storage, study.stored)


def retry_trials(study: Study, trials: Collection[int] = (), stage: Stage | None = None) -> Retry:
    """Queue failed trials again: a successor for each, with the same parameters and the same seed.

    `trials`: the numbers of the trials, of the search unless `stage` is `full`. Without numbers: all failed
    trials of the stage, or of both, but for those with a loss that was not finite. While no trial has trained
    an epoch, the study also accepts new code of your own network or function. Idempotent. Raises
    `NotFoundError` for an unknown number, `InputError` for a trial that has not failed, and `ConflictError`
    for new code after an epoch.
    """
    stored = _checked(study).stored
    stages: Sequence[Stage] = STAGES if stage is None else (stage,)
    if trials and stage is None:
        stages = ("search",)
    return retry.retry(study.storage, stored, trials, stages, _present_code(study))


def _present_code(study: Study) -> Identity:
    """Return the hash of the user's code on this machine."""
    spec, known = study.spec, study.stored.identity
    if spec.is_function:
        return present_function(spec, study.settings)
    # The code of a network of hpo's own is not part of a study.
    code = None if known.network is None else models.code_hash(spec.model.name, *spec.model.functions)
    return Identity(network=code)


def present_function(spec: StudySpec, settings: Settings) -> Identity:
    """Return the identity of a study of a training function, as the function is on this machine.

    Raises `InputError` if the function cannot be imported.
    """
    # In a child, so that the modules of users never meet in this process.
    return Identity.from_attributes(run_in_child("function", settings, function=spec.code))


def best_params(study: Study, stage: Stage | None = None) -> BestParams:
    """Return the best trial of a stage, `search` or `full`, with its parameters in `params`.

    Without a stage: of full training, or of the search if no training has completed. Raises `NotFoundError`
    if no trial has completed.
    """
    return best.best_params(_checked(study).storage, study.stored, stage)


def export_bundle(
    study: Study, directory: Path | str, model: Exported | None = None, shifts: int | None = None
) -> Bundle | FunctionBundle:
    """Write a fully trained model to the folder `directory`, and return it.

    `model`: `best`, `ensemble`, or the number of a full training. `shifts`: predictions are averaged over the
    translations of an image by up to this many pixels. None: as the section `[export]` of the study says.

    A bundle of this model that is there already is kept. A model is tested once, on the test part. Raises
    `NotFoundError` before the full training has completed, `AwayError` if its weights cannot be read, and
    `InputError` if `directory` has other files, or the study cannot be exported in this way.
    """
    check_model(model, shifts)
    check_folder(Path(directory))
    run_export(_checked(study), ExportRequest(Path(directory), model, shifts), trained=False)
    return load_bundle(directory)


def run_export(study: Study, request: ExportRequest, trained: bool) -> Any:
    """Export a model in a process of its own, which imports torch. Return its metrics as plain values."""
    plain = {"model": request.model, "shifts": request.shifts}
    return run_in_child(
        "export",
        study.settings,
        study=study.name,
        directory=str(request.directory),
        trained=trained,
        request=plain,
    )


def _checked(study: Study) -> Study:
    if not isinstance(study, Study):
        raise InputError(f"a study is what load_study returns, not a {type(study).__name__}")
    return study


def read_spec(spec: SpecLike) -> tuple[StudySpec, str]:
    """Return the parsed spec, and the words that begin each message about it. Raises `SpecError`."""
    if isinstance(spec, StudySpec):
        return spec, f"study {spec.name!r}"
    if isinstance(spec, Mapping):
        return StudySpec.parse(spec), "study"
    if isinstance(spec, Path | str):
        return StudySpec.load(spec), str(spec)
    raise InputError(f"a spec is a StudySpec, a mapping or a path, and not of the type {type(spec).__name__}")


def store_study(
    spec: StudySpec, source: str, storage: Storage | str | None, probes: bool = False
) -> tuple[Study, Creation]:
    """Check that a spec can be trained here, and store its study. `source` begins each message.

    `probes`: whether the artifact folder must be one that this machine can write to.
    """
    settings = settings_of(storage)
    identity = check_spec(spec, source, settings)
    opened = _open(storage, settings)
    if probes:
        probe_artifacts(settings)  # writes to the folder, so it comes after other mistakes
    creation = create.create(opened, spec, source, identity)
    return Study(creation.study, opened, settings), creation


def check_spec(spec: StudySpec, source: str, settings: Settings) -> Identity:
    """Check that a spec can be trained here, as `jobs.check_study` does. Return the identity of its study."""
    # In a child, which imports torch and reads the images; this process may live as long as the study.
    return Identity.from_attributes(run_in_child("check", settings, spec=spec.to_json(), source=source))


def settings_of(storage: Storage | str | None) -> Settings:
    """Return the settings of the environment, with this storage in place of that of HPO_STORAGE_URL.

    Workers and other child processes get these settings, and so open the same storage.
    """
    settings = Settings.from_environment()
    if storage is None:
        return settings
    if not isinstance(storage, Storage | str):
        raise InputError(f"a storage is a URL or an opened storage, not a {type(storage).__name__}")
    changes: dict[str, Any] = {"storage_url": storage, "storage_password_file": None}
    if isinstance(storage, str):
        del changes["storage_password_file"]
    elif storage.home is None:
        changes["storage_url"] = storage.url.render_as_string(hide_password=False)
    else:
        changes |= {"storage_url": None, "home": storage.home.parent}
    kept = {name: getattr(settings, name) for name in Settings.model_fields}
    return Settings(**{**kept, **changes})


def _open(storage: Storage | str | None, settings: Settings) -> Storage:
    return storage if isinstance(storage, Storage) else connection.open_storage(settings)
