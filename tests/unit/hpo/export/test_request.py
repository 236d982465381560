"""What an export takes, and what it refuses."""

from pathlib import Path

import pytest
from support.study_file import FUNCTION_TEXT, TEXT, load

from hpo.errors import InputError
from hpo.export.request import ExportRequest, check_model

NETWORK, FUNCTION = load(TEXT), load(FUNCTION_TEXT)
ENSEMBLE = load(
    TEXT.replace("top = 2", "top = 2\nseeds = 2").replace(
        "[full]", '[export]\nmodel = "ensemble"\nshifts = 1\n[full]'
    )
)
HERE = Path("bundle")


def test_request_takes_the_place_of_the_study_file() -> None:
    plain = ExportRequest(HERE)
    assert (plain.model_of(NETWORK), plain.shifts_of(NETWORK)) == ("best", 0)
    assert (plain.model_of(ENSEMBLE), plain.shifts_of(ENSEMBLE)) == ("ensemble", 1)
    assert (plain.model_of(FUNCTION), plain.shifts_of(FUNCTION)) == ("best", 0)
    given = ExportRequest(HERE, 3, 0)
    assert (given.model_of(ENSEMBLE), given.shifts_of(ENSEMBLE)) == (3, 0)
    assert given.model_of(FUNCTION) == 3


def test_ensemble_and_shifts_of_a_training_function_are_refused() -> None:
    with pytest.raises(InputError, match=r"only a study with .* can be exported with an ensemble"):
        ExportRequest(HERE, "ensemble").model_of(FUNCTION)
    with pytest.raises(InputError, match=r"only a study with .* can be exported with shifts"):
        ExportRequest(HERE, None, 1).shifts_of(FUNCTION)


@pytest.mark.parametrize("model", ["worst", True, 1.0, []])
def test_other_models_are_refused(model: object) -> None:
    with pytest.raises(InputError, match=r"^model = .*: must be 'best', 'ensemble' or the number"):
        check_model(model, None)


@pytest.mark.parametrize("shifts", ["1", True, -1, 0.5])
def test_other_shifts_are_refused(shifts: object) -> None:
    with pytest.raises(InputError, match=r"^shifts = .*: must be a whole number, at least 0$"):
        check_model(None, shifts)
