"""Run the loops that people write by hand, as the commands that `benchmarks.search` times.

python -m benchmarks.loops paper STUDY.toml
python -m benchmarks.loops optuna STUDY.toml OPTUNA_STUDY

paper     one trial at a time, images through PIL, a DataLoader with two workers, as the paper describes
optuna    images in memory, `study.optimize` on the waiting trials of the study, one trial at a time

Both run on the GPU, if there is one, and print the lowest validation loss.
"""

import math
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.search.samplers.points import plan
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import open_storage
from hpo.training.workload import Workload
from hpo.values.space import Choices, Point, Range

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Return the batches of one epoch."""

EVALUATION_BATCH = 500
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets yield them: each goes through PIL every time it is indexed."""

    def __init__(self, labelled: Labelled, transform: Callable[[Image.Image], Tensor]) -> None:
        self._images, self._labels, self._transform = labelled.images, labelled.labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def paper_loop(spec: StudySpec, workload: Workload) -> float:
    steps = [transforms.ToTensor(), transforms.Normalize(workload.mean, workload.std)]
    images = PilImages(workload.train, transforms.Compose(steps))
    train, validation = (
        Subset(images, np.asarray(index).tolist())
        for index in (workload.splits.mini_train, workload.splits.mini_validation)
    )
    losses = []
    for point in plan(spec.space, spec.search.trials, spec.seed):
        size = int(point["batch_size"])
        loaders = (
            DataLoader(train, size, shuffle=True, num_workers=2),
            DataLoader(validation, size, num_workers=2),
        )
        train_batches, validation_batches = (partial(to_device, loader) for loader in loaders)
        losses.append(train_cell(spec, workload, point, train_batches, validation_batches))
    return min(losses)


def optuna_loop(spec: StudySpec, workload: Workload, name: str) -> float:
    train, validation = workload.images("search", DEVICE)
    study = optuna.load_study(study_name=name, storage=open_storage(Settings.from_environment()).backend)

    def objective(trial: optuna.Trial) -> float:
        point = {name: suggest(trial, name, domain) for name, domain in spec.space.domains.items()}
        return train_cell(
            spec,
            workload,
            point,
            lambda: batches_in_memory(train, torch.randperm(len(train)), int(point["batch_size"])),
            lambda: batches_in_memory(validation, torch.arange(len(validation)), EVALUATION_BATCH),
        )

    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.optimize(objective, n_trials=1)
    return study.best_value


def suggest(trial: optuna.Trial, name: str, domain: Choices | Range) -> Any:
    assert isinstance(domain, Choices), "the studies of this benchmark have finite spaces"
    return trial.suggest_categorical(name, domain.values)


def to_device(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    return ((images.to(DEVICE), labels.to(DEVICE)) for images, labels in batches)


def batches_in_memory(images: DeviceImages, order: Tensor, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    return (images.batch(index) for index in torch.split(order.to(DEVICE), size))


def train_cell(
    spec: StudySpec, workload: Workload, point: Point, train: Batches, validation: Batches
) -> float:
    """Train a cell and return its mean loss per validation image, infinite if the training diverged."""
    model = workload.factory().to(DEVICE)
    optimizer = torch.optim.SGD(
        model.parameters(), point["lr"], momentum=point["momentum"], weight_decay=point["weight_decay"]
    )
    for _ in range(spec.search.epochs):
        model.train()
        for images, labels in train():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    model.eval()
    loss, count = 0.0, 0
    with torch.inference_mode():
        for images, labels in validation():
            loss += float(nn.functional.cross_entropy(model(images), labels, reduction="sum"))
            count += len(labels)
    return loss / count if math.isfinite(loss) else math.inf


def main() -> None:
    loop, file, *names = sys.argv[1:]
    spec = StudySpec.load(Path(file))
    workload = Workload.open(spec, Settings.from_environment())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(paper_loop(spec, workload) if loop == "paper" else optuna_loop(spec, workload, *names))


if __name__ == "__main__":
    main()
