"""A user's own loss and metrics: what can be named."""

import re
import sys
from pathlib import Path

import pytest

from hpo import models

SOURCE = "def squared(outputs, targets): return (outputs - targets) ** 2\nnumber = 3\n"


@pytest.fixture(autouse=True)
def own_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)


def test_function_is_imported_from_the_current_folder() -> None:
    assert models.resolve_function("own_losses:squared")(5, 3) == 4


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("squared", "'squared' is no function: it must be your own as package.module:function"),
        (
            "own_losses.squared",
            "'own_losses.squared' is no function: did you mean own_losses:squared? it must",
        ),
        ("own_losses:cubed", "own_losses:cubed: own_losses has no cubed"),
        ("own_losses:number", "own_losses:number: must be a function, not a int"),
        (
            "no_losses:squared",
            "no_losses:squared: No module named 'no_losses'; no_losses has to be installed",
        ),
    ],
)
def test_wrong_function_is_refused_in_one_line(reference: str, message: str) -> None:
    with pytest.raises(models.ModelError, match=f"^{re.escape(message)}"):
        models.resolve_function(reference)
