"""Which images each full training classifies right, computed from its stored weights.

The images are those of the training part of the data set: the mini images that decide, and the images that
full training learns from. No test image is read.

python -m benchmarks.paper.predictions STUDY PART    compute what is missing, in a process of its own
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.paper.intervals import Hits
from benchmarks.paper.trained import Training, read_trained
from benchmarks.results import ROOT
from hpo.errors import HpoError
from hpo.settings import Settings, child_environment
from hpo.store.connection import open_storage
from hpo.study import stored
from hpo.study.study import Study

Part = Literal["train", "mini"]
"""A part of the training images: what full training learns from, or what it validates on."""


def read_hits(settings: Settings, study: Study, trainings: Sequence[Training], part: Part) -> Hits | None:
    """Return whether each training classifies each image of a part right, `(S, N)`. None without trainings.

    What is not there yet is computed first, in a process of its own, and kept. Raises `HpoError`.
    """
    if not trainings:
        return None
    files = [hits_file(settings, study, training, part) for training in trainings]
    if not all(file.exists() for file in files):
        # torch and the images are in memory only as long as they are needed.
        command = [sys.executable, "-m", "benchmarks.paper.predictions", study.name, part]
        environment = child_environment(**settings.to_environment())
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode != 0:
            raise HpoError(f"study {study.name!r}: its networks could not be evaluated; see above")
    return np.stack([np.load(file) for file in files])


def hits_file(settings: Settings, study: Study, training: Training, part: str) -> Path:
    """Return the file of the hits of one full training on a part."""
    folder = Path(settings.home, "hits", study.artifacts_name).expanduser().absolute()
    return folder / f"{training.weights}.{part}.npy"


def compute(settings: Settings, name: str, part: str) -> None:
    """Write the hits of all finished full trainings of a study on a part, where they are missing."""
    import torch
    from safetensors.torch import load

    from hpo.artifacts.names import check_weights_name
    from hpo.artifacts.registry import open_artifacts
    from hpo.export.metrics import Normalization
    from hpo.export.scoring import outputs
    from hpo.run.workload import study_workload

    storage = open_storage(settings)
    study = stored.load(storage, name)
    trained = read_trained(storage, study)
    workload = study_workload(study, settings)
    artifacts = open_artifacts(settings, study.artifacts_name)
    rows = workload.splits.train if part == "train" else workload.splits.mini
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for training in trained.trainings:
        file = hits_file(settings, study, training, part)
        if file.exists():
            continue
        assert trained.params is not None
        network = workload.factory_of(trained.params)()
        network.load_state_dict(load(artifacts.get(check_weights_name(training.weights))))
        network.to(device)
        inputs = torch.from_numpy(workload.train.images[rows]).view(-1, *workload.train.shape)
        logits = outputs(network, inputs, Normalization(workload.mean, workload.std), device)
        _write(file, logits.argmax(-1).numpy() == workload.train.labels[rows])


def _write(file: Path, hits: npt.NDArray[np.bool_]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("wb") as opened:
        np.save(opened, hits)
    new.rename(file)  # a killed process leaves no half-written file


def main() -> None:
    try:
        compute(Settings.from_environment(), sys.argv[1], sys.argv[2])
    except HpoError as error:
        sys.exit(f"predictions of {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
