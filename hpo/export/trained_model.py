"""A trained network of a study, alone or with the other seeds as an ensemble, as it is exported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from safetensors.torch import load
from torch import Tensor, nn

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.names import WeightsName
from hpo.errors import InputError
from hpo.export.bundle import misfit_of
from hpo.export.ensemble import ensemble_of, with_shifts
from hpo.export.model_spec import ModelSpec
from hpo.export.weights import read_weights
from hpo.study.best import Chosen
from hpo.study.study import Study
from hpo.training.workload import Workload
from hpo.values.parameters import model_keywords


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model to export. `names`: of the artifacts with the weights of its members."""

    spec: ModelSpec
    names: Sequence[WeightsName]
    members: Sequence[nn.Module]

    @cached_property
    def network(self) -> nn.Module:
        """The network without shifts, as `Bundle.model` returns it."""
        return ensemble_of(self.members, of_classes=bool(self.spec.classes))

    @property
    def predictor(self) -> nn.Module:
        """The network with the shifts of the spec."""
        spec = self.spec
        return with_shifts(self.network, spec.shifts, spec.normalization, of_classes=bool(spec.classes))

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The state dict of the network."""
        return self.network.state_dict()


def read_model(
    study: Study, chosen: Chosen, shifts: int, workload: Workload, artifacts: ArtifactStore
) -> TrainedModel:
    """Read the weights of the chosen full trainings.

    Raises `AwayError` if weights cannot be read, and `InputError` if they do not fit the network of this
    machine, or the inputs cannot be shifted.
    """
    names, members = [], []
    for row in chosen.members:
        name, weights = read_weights(study, row, artifacts, load)
        network = workload.factory_of(chosen.best.params)()
        misfit = misfit_of(network, weights)
        if misfit is not None:
            raise InputError(
                f"the weights of trial {row.number} of {study.spec.full_name!r} do not fit the model "
                f"{study.spec.model.name!r} of this machine: {misfit}; restore the code that was trained"
            )
        network.load_state_dict(weights)
        names.append(name)
        members.append(network.eval())
    return TrainedModel(_model_spec(workload, chosen, shifts), names, members)


def _model_spec(workload: Workload, chosen: Chosen, shifts: int) -> ModelSpec:
    train, classes = workload.train, workload.dataset.classes
    try:
        return ModelSpec(
            name=workload.spec.model.name,
            classes=classes or (),
            target_shape=None if classes is not None else train.labels.shape[1:],
            in_channels=train.channels if train.is_images else None,
            image_size=train.size if train.is_images else None,
            input_shape=None if train.is_images else train.shape,
            mean=workload.mean,
            std=workload.std,
            keywords=model_keywords(chosen.best.params),
            members=len(chosen.members),
            shifts=shifts,
        )
    except ValueError as error:
        raise InputError(f"study {workload.spec.name!r}: {error}") from error
