"""Mistakes in a user's network, data or training function, as mistakes of the study file that names them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.data import DataInputError
from hpo.errors import InputError, KeyInputError
from hpo.spec.study_spec import StudySpec


class SpaceInputError(KeyInputError):
    """A parameter of the space that does not fit the network or the data. `key`: its name in the space."""


@contextmanager
def mistakes_of(spec: StudySpec, source: str) -> Iterator[None]:
    """Raise InputError with file, key and value for a mistake in what a spec names.

    `source` names the file in messages. An InputError of the block is about the network or the function.
    """
    try:
        yield
    except DataInputError as error:
        key, value = f"data.{error.key}", getattr(spec.data, error.key)
        rule = str(error).removeprefix(f"{value}: ")
        raise InputError(f"{source}: {key} = {json.dumps(value)}: {rule}") from error
    except SpaceInputError as error:
        raise InputError(f"{source}: space.{error.key}: {error}") from error
    except KeyInputError as error:
        raise InputError(f"{source}: {error.key}: {error}") from error
    except InputError as error:
        if spec.train is not None:
            function = json.dumps(spec.train.function)
            raise InputError(f"{source}: train.function = {function}: {error}") from error
        raise InputError(f"{source}: model.name = {json.dumps(spec.model.name)}: {error}") from error
