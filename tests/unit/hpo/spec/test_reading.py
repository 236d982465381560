"""Reading: a study file that Python cannot hold is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from hpo.errors import SpecError
from hpo.spec.reading import read_toml, to_json
from hpo.spec.study_spec import StudySpec

DIGITS = "a whole number has too many digits"
DEPTH = "lists and tables are nested more than 20 deep"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"[space]\nlr = {'9' * 5000}", DIGITS),
        (f"[space]\nlr = 0x{'f' * 5000}", DIGITS),
        (f"[space]\nlr = {'[' * 3000}{']' * 3000}", DEPTH),
        (f"[space]\nlr = {'[' * 300}{']' * 300}", DEPTH),
        (f"[space]\nmodel.{'a.' * 3000}b = 1", DEPTH),
    ],
)
def test_value_that_python_cannot_hold_is_refused_in_one_line(tmp_path: Path, text: str, rule: str) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        StudySpec.load(file)
    assert str(caught.value) == f"{file}: {rule}"


def test_toml_is_read_as_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "plain.toml"
    file.write_text("[space]\nlr = [0.1, 0.2]")
    assert read_toml(file) == {"space": {"lr": [0.1, 0.2]}}


def test_numbers_of_numpy_are_numbers_in_json() -> None:
    assert to_json({"lr": np.float64(0.5), "sizes": (16, 32)}, "study") == '{"lr": 0.5, "sizes": [16, 32]}'
