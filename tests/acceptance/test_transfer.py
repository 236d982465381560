"""`hpo transfer` as a user runs it."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.bundles import random_bundle
from support.refusals import assert_one_line
from support.shell import Shell

from hpo.data.digits import open_digits
from hpo.export.model_spec import ModelSpec

SPEC = ModelSpec("lenet", tuple("0123456789AB"), 1, (28, 28), (0.17,), (0.33,))


@pytest.fixture
def source(shell: Shell) -> Path:
    return random_bundle(shell.folder / "source", SPEC).directory


def test_transferred_bundle_classifies_images_of_the_new_classes(shell: Shell, source: Path) -> None:
    done = shell.hpo(
        "transfer", "source", "--data", "digits", "-o", "new", "--layers", "all", "--epochs", "2"
    )
    assert done.stdout == "new\n"
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == ["epoch 1 of 2", "epoch 2 of 2", "test"]
    assert "accuracy" in lines[-1]
    assert "95% interval" in lines[-1]
    Image.fromarray(open_digits().load_train().images[0]).save(shell.folder / "digit.png")
    ranking = json.loads(shell.hpo("predict", "new", "digit.png", "--json").stdout)[0]["ranking"]
    assert {entry["class"] for entry in ranking} < set("0123456789")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none", "--data", "digits", "-o", "new"), "none: no such folder"),
        (("source", "--data", "digit", "-o", "new"), "did you mean digits"),
        (("source", "--data", "digits", "-o", "source"), "choose another folder"),
        (("source", "--data", "digits", "-o", "new", "--lr", "-1"), "lr = -1.0: must be a number above 0"),
    ],
)
def test_mistake_is_one_line(shell: Shell, source: Path, arguments: tuple[str, ...], message: str) -> None:
    assert_one_line(shell.hpo("transfer", *arguments, expect=2).stderr, message)
    assert not (shell.folder / "new").exists()
