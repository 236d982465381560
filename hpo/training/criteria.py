"""The criterion that fits the targets of a data set."""

import json
from collections.abc import Mapping

from hpo import models
from hpo.errors import KeyInputError
from hpo.training.classification import Classification
from hpo.training.criterion import Criterion, OwnFunction
from hpo.training.regression import Regression
from hpo.values.data_shape import DataShape


def criterion_of(shape: DataShape, loss: str | None, metrics: Mapping[str, str]) -> Criterion:
    """Return what a network is trained for on data of this shape.

    `loss` and `metrics`: a user's own, as `package.module:function`. Raises KeyInputError if a function
    cannot be imported.
    """
    own_loss = None if loss is None else _own("model.loss", loss)
    own_metrics = {name: _own(f"model.metrics.{name}", reference) for name, reference in metrics.items()}
    if shape.classes is None:
        return Regression(shape.target, own_loss=own_loss, own_metrics=own_metrics)
    return Classification(shape.classes, own_loss=own_loss, own_metrics=own_metrics)


def _own(key: str, reference: str) -> OwnFunction:
    try:
        return OwnFunction(key, reference, models.resolve_function(reference))
    except models.ModelError as error:
        raise KeyInputError(f"{key} = {json.dumps(reference)}", str(error)) from error
