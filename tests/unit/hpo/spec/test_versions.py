import pytest
from support.study_file import load

from hpo.errors import SpecError
from hpo.search.pruners.registry import PRUNERS
from hpo.spec.study_spec import StudySpec
from hpo.spec.versions import VERSION

SPEC = load()

SECTION_1 = {"startup_trials": 5, "warmup_epochs": 0, "min_epochs": 1, "reduction": 3}
"""The section `[pruner]` of version 1, without its name."""


def test_stored_spec_has_the_current_version_and_is_read_back() -> None:
    stored = SPEC.to_stored()
    assert stored["version"] == VERSION == 2
    assert StudySpec.from_stored(stored, "stored") == SPEC


@pytest.mark.parametrize("name", PRUNERS)
def test_spec_of_version_1_keeps_the_keys_of_its_pruner(name: str) -> None:
    stored = {**SPEC.to_json(), "pruner": {"name": name, **SECTION_1, "startup_trials": 4, "min_epochs": 2}}
    pruner = StudySpec.from_stored(stored, "stored").pruner
    values = {"name": name, "startup_trials": 4, "warmup_epochs": 0, "min_epochs": 2, "reduction": 3}
    assert pruner.model_dump() == {key: values[key] for key in type(pruner).model_fields}


@pytest.mark.parametrize("name", ["random", "tpe", "gp"])
def test_spec_of_version_1_keeps_its_sampler(name: str) -> None:
    stored = {**SPEC.to_json(), "pruner": {"name": "asha", **SECTION_1}}
    stored["sampler"] = {"name": name, "startup": 7}
    assert StudySpec.from_stored(stored, "stored").sampler.startup == 7


@pytest.mark.parametrize("version", [3, 0, "two"])
def test_spec_of_an_unknown_version_is_refused_in_one_line(version: object) -> None:
    with pytest.raises(SpecError) as caught:
        StudySpec.from_stored({**SPEC.to_stored(), "version": version}, "stored study 'small'")
    assert str(caught.value) == (
        f"stored study 'small': version = {version}: this version of hpo reads specs of versions up to 2; "
        "update hpo"
    )
