"""The weights of a full training, as its worker has saved them."""

from collections.abc import Callable
from typing import TypeVar

from safetensors import SafetensorError

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.names import WeightsName, check_weights_name
from hpo.errors import ArtifactNameError, AwayError
from hpo.store.trials import TrialRow
from hpo.study.study import Study

T = TypeVar("T")


def read_weights(
    study: Study, row: TrialRow, artifacts: ArtifactStore, decode: Callable[[bytes], T]
) -> tuple[WeightsName, T]:
    """Return the name of the artifact with the weights of a full training, and its decoded content.

    `decode` may raise `SafetensorError`. Raises `ArtifactNameError` for another name than that of hpo, and
    `AwayError` if the artifact cannot be read.
    """
    trial = f"trial {row.number} of {study.spec.full_name!r}"
    try:
        name = check_weights_name(row.record.weights)
        return name, decode(artifacts.get(name))
    except ArtifactNameError as error:
        raise ArtifactNameError(f"{trial}: {error}") from error
    except (AwayError, SafetensorError) as error:
        raise AwayError(
            f"cannot read the weights of {trial}: {error}; "
            "is HPO_ARTIFACTS the folder that its worker wrote to?"
        ) from error
