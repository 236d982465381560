"""Which images the models of a study classify right, computed from their stored weights.

The images are those of the training part of the data set: the mini images that decide, and the images that
full training learns from. No test image is read here.

python -m benchmarks.paper.predictions STUDY PART SHIFTS    compute what is missing, in a process of its own
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.paper.intervals import Hits
from benchmarks.paper.trained import Training, read_trained
from benchmarks.results import ROOT
from hpo.artifacts.names import check_weights_name, results_name
from hpo.errors import HpoError
from hpo.settings import Settings, child_environment
from hpo.store.connection import open_storage
from hpo.study import stored
from hpo.study.study import Study
from hpo.values.exported import Exported

Part = Literal["train", "mini"]
"""A part of the training images: what full training learns from, or what it validates on."""


@dataclass(frozen=True, slots=True)
class Model:
    """A single training, or the ensemble of several, which averages over shifts of an image."""

    trainings: Sequence[Training]
    shifts: int = 0

    @property
    def stem(self) -> str:
        """Return a name that no other model of the study has."""
        names = [check_weights_name(training.weights) for training in self.trainings]
        return Path(results_name(names, self.shifts)).stem

    @property
    def exported(self) -> Exported:
        """Return the model as an export names it."""
        return "ensemble" if len(self.trainings) > 1 else self.trainings[0].trial


def models_of(trainings: Sequence[Training], shifts: int = 0) -> Iterator[Model]:
    """Yield the model of each training, and then the ensemble of several."""
    for training in trainings:
        yield Model([training], shifts)
    if len(trainings) > 1:
        yield Model(trainings, shifts)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The right and wrong classifications by the models of a study. What is computed once is kept."""

    settings: Settings
    study: Study

    def read(self, models: Sequence[Model], part: Part) -> Hits | None:
        """Return whether each model classifies each image of a part right, `(S, N)`. None without models.

        All models have the same shifts. What is missing is computed first, in a process of its own. Raises
        `HpoError`.
        """
        if not models:
            return None
        files = [self._file(model, part) for model in models]
        if not all(file.exists() for file in files):
            self._compute_in_child(part, models[0].shifts)
        return np.stack([np.load(file) for file in files])

    def _file(self, model: Model, part: Part) -> Path:
        folder = Path(self.settings.home, "hits", self.study.artifacts_name).expanduser().absolute()
        return folder / f"{model.stem}.{part}.npy"

    def _compute_in_child(self, part: Part, shifts: int) -> None:
        # torch and the images are in memory only as long as they are needed.
        command = [sys.executable, "-m", "benchmarks.paper.predictions", self.study.name, part, str(shifts)]
        environment = child_environment(**self.settings.to_environment())
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode != 0:
            raise HpoError(f"study {self.study.name!r}: its networks could not be evaluated; see above")

    def compute(self, trainings: Sequence[Training], part: Part, shifts: int) -> None:
        """Write the hits of all models of some trainings on a part, where they are missing."""
        import torch

        from hpo.artifacts.registry import open_artifacts
        from hpo.export.scoring import outputs
        from hpo.export.trained_model import read_model
        from hpo.run.workload import study_workload
        from hpo.study.best import choose

        storage = open_storage(self.settings)
        workload = study_workload(self.study, self.settings)
        artifacts = open_artifacts(self.settings, self.study.artifacts_name)
        rows = workload.splits.train if part == "train" else workload.splits.mini
        inputs = torch.from_numpy(workload.train.images[rows]).view(-1, *workload.train.shape)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        for model in models_of(trainings, shifts):
            file = self._file(model, part)
            if file.exists() or (part == "train" and len(model.trainings) > 1):
                continue
            chosen = choose(storage, self.study, model.exported)
            trained = read_model(self.study, chosen, shifts, workload, artifacts)
            logits = outputs(trained.predictor.to(device), inputs, trained.spec.normalization, device)
            _write(file, logits.argmax(-1).numpy() == workload.train.labels[rows])


def _write(file: Path, hits: npt.NDArray[np.bool_]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("wb") as opened:
        np.save(opened, hits)
    new.rename(file)  # a killed process leaves no half-written file


def main() -> None:
    name, part, shifts = sys.argv[1:]
    settings = Settings.from_environment()
    try:
        storage = open_storage(settings)
        study = stored.load(storage, name)
        trainings = read_trained(storage, study).trainings
        Predictions(settings, study).compute(trainings, "train" if part == "train" else "mini", int(shifts))
    except HpoError as error:
        sys.exit(f"predictions of {name}: {error}")


if __name__ == "__main__":
    main()
