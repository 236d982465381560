"""All figures of one network from its stored studies, as far as these are finished."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.paper.predictions import Model, Predictions
from benchmarks.paper.scores import Figures, compare, score
from benchmarks.paper.studies import Plan
from benchmarks.paper.testing import Tested, read_tested
from benchmarks.paper.trained import Trained, best_points, read_trained
from benchmarks.paper.training import Trainer
from hpo.data.arrays import find_mapped
from hpo.export.analysis.ceilings import ceilings_of
from hpo.settings import Settings
from hpo.study.study import Study
from hpo.values.space import Point


@dataclass(frozen=True, eq=False)
class Cell:
    """A study, what is finished of it, and what was scored of that."""

    study: Study
    trained: Trained
    predictions: Predictions
    tested: Tested | None

    def validation(self, *, ensembles: bool, shifts: int) -> dict[str, Any]:
        """Return the accuracies on the mini images beside those of the single seeds: with shifts, and of the
        ensemble."""
        trainings, figures = self.trained.trainings, {}
        models = {"ensemble": Model(trainings), "shifted_ensemble": Model(trainings, shifts)}
        for key, model in models.items():
            if ensembles and len(trainings) > 1 and (model.shifts or key == "ensemble"):
                hits = self.predictions.read([model], "mini")
                figures[key] = {} if hits is None else score(hits)
        if shifts:
            hits = self.predictions.read([Model([training], shifts) for training in trainings], "mini")
            figures["shifted"] = {} if hits is None else score(hits)
        return figures


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the studies of a storage.

    `shifts`: models also predict with shifts of an image by up to this number of pixels.
    """

    trainer: Trainer
    shifts: int = 0

    def trained(self, name: str) -> Trained | None:
        """Return what is finished of a study, None if it is not stored."""
        study = self.trainer.find(name)
        return None if study is None else read_trained(self.trainer.storage, study)

    def best_points(self, name: str, count: int) -> list[Point]:
        """Return the parameters of the best completed search trials of a study, best first."""
        study = self.trainer.find(name)
        return [] if study is None else best_points(self.trainer.storage, study, count)

    def middle_cells(self, plan: Plan) -> list[Trained]:
        """Return the cells that were trained for a part of the epochs, in the order of the search."""
        cells = [trained for name in plan.middle_names() if (trained := self.trained(name))]
        return [trained for trained in cells if trained.trainings]

    def middle_winner(self, plan: Plan) -> Point | None:
        """Return the cell with the least validation loss after a part of the epochs, None without one."""
        cells = self.middle_cells(plan)
        return min(cells, key=lambda trained: trained.trainings[0].loss).params if cells else None

    def network(self, plan: Plan) -> Figures:
        """Return the figures of a network. Parts that no study has yet are left out."""
        found = self._cell(plan.name, self.shifts)
        if found is None:
            return {}
        arms = {label: cell for label, name in plan.arm_names().items() if (cell := self._cell(name, 0))}
        figures: Figures = {**found.trained.to_json(), "middle": self._middle(plan)}
        figures["arms"] = {label: cell.trained.to_json() for label, cell in arms.items()}
        for part in ("validation", "test"):
            own, others = compare(
                _hits(found, part), {label: _hits(arm, part) for label, arm in arms.items()}
            )
            if own:
                figures[part] = own
            for label, scores in others.items():
                figures["arms"][label][part] = scores
        if "validation" in figures:
            figures["validation"] |= found.validation(ensembles=True, shifts=self.shifts)
            train = found.predictions.read(_single(found), "train")
            figures |= {} if train is None else {"train": score(train)}
        if found.tested is not None:
            figures["test"] |= found.tested.figures
        return {**figures, "ceilings": class_ceilings(self.trainer.settings, found.study)}

    def _cell(self, name: str, shifts: int) -> Cell | None:
        study = self.trainer.find(name)
        if study is None:
            return None
        trained = read_trained(self.trainer.storage, study)
        tested = read_tested(self.trainer, study, trained, shifts)
        return Cell(study, trained, Predictions(self.trainer.settings, study), tested)

    def _middle(self, plan: Plan) -> list[Figures]:
        """Return the figures of the cells that were trained for a part of the epochs."""
        rows = []
        for trained in self.middle_cells(plan):
            training = trained.trainings[0]
            rows.append(
                {
                    "study": trained.study,
                    "params": trained.params,
                    "epochs": training.epochs,
                    "accuracy": training.accuracy,
                    "loss": training.loss,
                    "seconds": training.seconds,
                }
            )
        return rows


def class_ceilings(settings: Settings, study: Study) -> list[Figures]:
    """Return what classifiers reach on the class counts of the training images that cannot tell some classes
    apart. Empty unless the arrays of the data set are on this machine."""
    hashes = study.identity.data
    content = None if hashes is None else hashes.content
    dataset = find_mapped(study.spec.data.name, settings.data_path, settings.arrays_path, content)
    if dataset is None or dataset.classes is None:
        return []
    counts = np.bincount(dataset.load_train().labels.astype(np.int64), minlength=len(dataset.classes))
    return [asdict(ceiling) for ceiling in ceilings_of(dataset.classes, counts)]


def _single(cell: Cell) -> list[Model]:
    return [Model([training]) for training in cell.trained.trainings]


def _hits(cell: Cell, part: str) -> Any:
    if part == "test":
        return None if cell.tested is None else cell.tested.hits
    return cell.predictions.read(_single(cell), "mini")
