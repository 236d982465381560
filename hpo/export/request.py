"""What to export of a study, and where to."""

from dataclasses import dataclass
from pathlib import Path

from hpo.errors import InputError
from hpo.spec.study_spec import StudySpec
from hpo.values.exported import Exported


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The folder of a new bundle, and its model. None for `model` and `shifts`: as `[export]` says."""

    directory: Path
    model: Exported | None = None
    shifts: int | None = None

    def model_of(self, spec: StudySpec) -> Exported:
        """Return what to export of a study of this spec.

        Raises `InputError` for an ensemble of a training function, whose results hpo cannot average.
        """
        if self.model == "ensemble" and spec.is_function:
            raise InputError(f"study {spec.name!r}: {_OF_NETWORKS.format('an ensemble')}")
        if self.model is not None:
            return self.model
        return "best" if spec.is_function else spec.export.model

    def shifts_of(self, spec: StudySpec) -> int:
        """Return the shifts at prediction. Raises `InputError` for shifts with a training function."""
        if self.shifts and spec.is_function:
            raise InputError(f"study {spec.name!r}: {_OF_NETWORKS.format('shifts')}")
        if self.shifts is not None:
            return self.shifts
        return 0 if spec.is_function else spec.export.shifts


_OF_NETWORKS = "only a study with [model] can be exported with {}, and this one has [train]"


def check_model(model: object, shifts: object) -> None:
    """Raise `InputError` unless the values are those of an `ExportRequest`."""
    if not (model is None or model in ("best", "ensemble") or type(model) is int):
        raise InputError(f"model = {model!r}: must be 'best', 'ensemble' or the number of a full training")
    if not (shifts is None or (type(shifts) is int and shifts >= 0)):
        raise InputError(f"shifts = {shifts!r}: must be a whole number, at least 0")
