"""Bundles of training functions: parameters, metrics, state and files, read without pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.errors import HpoError, InputError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle_folder import FUNCTION_FILES, check_folder
from hpo.export.function_bundle import FunctionBundle, FunctionContents, FunctionSpec, write_function_bundle
from hpo.functions.encoding import FILES, encode
from hpo.values.space import Value
from hpo.values.state import StateError

SPEC = FunctionSpec("train:fit", seed=7, epochs=20, kept_epoch=13)
PARAMS: dict[str, Value] = {"lr": 0.1, "depth": 3, "optimizer": "lion", "nesterov": True}
METRICS = {"accuracy": 0.97, "seconds": 3.0}
STATE = OrderedDict(model={"w": np.eye(2), 0: [1, 2.5, None]}, epochs=(13, "done"))


def write(
    directory: Path, state: object = STATE, files: dict[str, bytes] | None = None, **changes: Any
) -> Path:
    arrays = encode(state, files)
    parts = {"function": SPEC, "params": PARAMS, "metrics": METRICS, "provenance": {"trial": 2}, **changes}
    write_function_bundle(directory, FunctionContents(arrays=arrays, **parts))
    return directory


def opened(directory: Path) -> FunctionBundle:
    bundle = load_bundle(directory)
    assert isinstance(bundle, FunctionBundle)
    return bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", files={"model.json": b"{}", "deep/er/notes.txt": b"\xff\x00"})


def test_opened_bundle_equals_the_written_one(path: Path) -> None:
    bundle = opened(path)
    assert (bundle.function, bundle.params, bundle.metrics) == (SPEC, PARAMS, METRICS)
    assert bundle.provenance == {"trial": 2}
    assert [type(value) for value in bundle.params.values()] == [float, int, str, bool]
    state = bundle.state()
    assert list(state) == ["model", "epochs"]
    assert np.array_equal(state["model"]["w"], np.eye(2))
    assert (state["model"][0], state["epochs"]) == ([1, 2.5, None], (13, "done"))


def test_files_of_the_trial_are_files(path: Path) -> None:
    files = opened(path).files
    found = {str(file.relative_to(files)): file.read_bytes() for file in files.rglob("*") if file.is_file()}
    assert found == {"model.json": b"{}", "deep/er/notes.txt": b"\xff\x00"}


def test_state_and_files_may_be_missing(tmp_path: Path) -> None:
    write_function_bundle(tmp_path / "new", FunctionContents(SPEC, {}, PARAMS, METRICS, {}))
    assert {file.name for file in (tmp_path / "new").iterdir()} == FUNCTION_FILES
    bundle = opened(tmp_path / "new")
    assert bundle.state() is None
    assert not bundle.files.exists()


def test_bundle_is_opened_without_torch(path: Path) -> None:
    code = (
        f"import sys, hpo; bundle = hpo.load_bundle({str(path)!r}); bundle.state(); bundle.files; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "", "a//b"])
def test_file_outside_the_folder_is_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    arrays = {**encode(STATE), FILES + name: np.zeros(3, np.uint8)}
    with pytest.raises(StateError, match="is no path of a file in a trial's directory"):
        write_function_bundle(tmp_path / "bundle", FunctionContents(SPEC, arrays, PARAMS, METRICS, {}))
    assert list(tmp_path.iterdir()) == []


def test_file_and_folder_of_one_name_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(HpoError, match="cannot write the folder"):
        write(tmp_path / "bundle", files={"a": b"", "a/b": b""})
    assert list(tmp_path.iterdir()) == []


def test_bundle_is_replaced_as_a_whole(path: Path) -> None:
    check_folder(path)
    write(path, state=None, params={"lr": 0.2})
    assert opened(path).params == {"lr": 0.2}
    assert not opened(path).files.exists()
    assert [file.name for file in path.parent.iterdir()] == ["bundle"]
    (path / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty and not a bundle"):
        write(path)


@pytest.mark.parametrize("name", sorted(FUNCTION_FILES - {"function.json"}))
def test_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(
        InputError, match=f"{name}: no such file; the bundle of a function has function.json, "
    ):
        load_bundle(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("function.json", "{}", r"function\.json: name: Field required"),
        ("metrics.json", '{"accuracy": "high"}', r"metrics\.json: accuracy: Input should be a valid number"),
        ("params.json", "[", r"params\.json: Invalid JSON"),
    ],
)
def test_damaged_file_is_reported_in_one_line(path: Path, name: str, text: str, message: str) -> None:
    (path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04K\x01."], ids=["empty", "pickle"])
def test_damaged_state_is_reported_in_one_line(path: Path, damage: bytes) -> None:
    (path / "state.safetensors").write_bytes(damage)
    with pytest.raises(InputError, match=r"state\.safetensors: damaged or unreadable state: ") as caught:
        opened(path).state()
    assert "\n" not in str(caught.value)


def test_metrics_of_a_bundle_are_plain_json(path: Path) -> None:
    assert json.loads((path / "metrics.json").read_text()) == METRICS
    assert json.loads((path / "function.json").read_text())["name"] == "train:fit"
