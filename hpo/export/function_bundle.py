"""Bundles of training functions: folders with the result of the best full training.

Each file is for a different reader, and none is a pickle:

params.json         the best parameters, for other programs
function.json       the `FunctionSpec`: which function was trained, and how far
metrics.json        the metrics of the kept epoch by name
provenance.json     study, trial, code and versions behind the result
state.safetensors   the state that the function saved with the kept epoch, if it saved one
files               the files that it wrote to the trial's directory, if there are any
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from hpo.errors import InputError
from hpo.export.bundle_folder import (
    FUNCTION,
    FUNCTION_FILES,
    METRICS,
    PARAMS,
    PROVENANCE,
    STATE,
    TRIAL_FILES,
    new_bundle,
    read_json,
    write_json,
)
from hpo.functions.encoding import FILES, decode, decode_files, has_state
from hpo.values.space import Value
from hpo.values.state import Arrays, StateError


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """Which function was trained.

    `name`: as in the study file, `package.module:function`. `seed`: of the full training. `kept_epoch`: the
    epoch whose metrics, state and files these are, of `epochs`.
    """

    name: str
    seed: int | None
    epochs: int | None
    kept_epoch: int | None


@dataclass(frozen=True, eq=False)
class FunctionBundle:
    """An opened bundle of a training function. `metrics` are those that the function reported."""

    directory: Path
    function: FunctionSpec
    params: Mapping[str, Value]
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]

    @property
    def files(self) -> Path:
        """Return the folder with the files of the trial. It does not exist if the trial has none."""
        return self.directory / TRIAL_FILES

    def state(self) -> Any:
        """Return the state that the function saved with the kept epoch, None if it saved none.

        Tensors are on the CPU. torch is imported only if there are tensors. Raises `InputError` if the file
        is damaged.
        """
        path = self.directory / STATE
        if not path.exists():
            return None
        try:
            return decode(load(path.read_bytes()))
        except (OSError, SafetensorError, StateError) as error:
            raise InputError(f"{path}: damaged or unreadable state: {error}") from error


@dataclass(frozen=True, eq=False)
class FunctionContents:
    """The contents of a new bundle. `arrays`: the state and the files, encoded as in `hpo.functions`."""

    function: FunctionSpec
    arrays: Arrays
    params: Mapping[str, Value]
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]


def write_function_bundle(directory: Path, contents: FunctionContents) -> None:
    """Write a complete bundle or nothing, as `new_bundle` does.

    Raises `StateError` for the name of a file that leads out of the folder.
    """
    files = decode_files(contents.arrays)  # checks the names
    with new_bundle(directory) as new:
        write_json(new / FUNCTION, contents.function)
        write_json(new / PARAMS, contents.params)
        write_json(new / METRICS, contents.metrics)
        write_json(new / PROVENANCE, contents.provenance)
        if has_state(contents.arrays):
            state = {name: array for name, array in contents.arrays.items() if not name.startswith(FILES)}
            (new / STATE).write_bytes(save(state))
        for name, content in files.items():
            path = new / TRIAL_FILES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())


def open_function_bundle(directory: Path) -> FunctionBundle:
    """Open the bundle of a training function. The state is read by `FunctionBundle.state`.

    Raises `InputError` if a file is missing or differs from the format of `write_function_bundle`.
    """
    for name in sorted(FUNCTION_FILES):
        if not (directory / name).is_file():
            expected = ", ".join(sorted(FUNCTION_FILES))
            raise InputError(f"{directory / name}: no such file; the bundle of a function has {expected}")
    return FunctionBundle(
        directory,
        read_json(directory / FUNCTION, FunctionSpec),
        read_json(directory / PARAMS, dict[str, int | float | bool | str]),
        read_json(directory / METRICS, dict[str, float]),
        read_json(directory / PROVENANCE, dict[str, Any]),
    )
