"""The weights of fully trained models in the artifact folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors.torch import save
from torch import Tensor

from hpo.claim import LeasedTrial


def save_weights(folder: Path, trial: LeasedTrial, weights: Mapping[str, Tensor]) -> str:
    """Writes a state dict as safetensors, whole or not at all; gives the name of the file in `folder`.

    The name holds the lease's token, so a worker that lost its trial cannot overwrite its successor's.
    """
    name = f"trial-{trial.number:04d}-{trial.lease.token}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
        file.write(save({key: tensor.contiguous().cpu() for key, tensor in weights.items()}))
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(folder / name)
    return name
