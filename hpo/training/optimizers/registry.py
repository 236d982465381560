"""The optimizers by name. To add an optimizer, add its file and its class here."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hpo.training.columns import columns
from hpo.training.optimizers.adam import Adam
from hpo.training.optimizers.adamw import AdamW
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.sgd import Sgd

OPTIMIZERS: Mapping[str, type[Optimizer]] = {optimizer.name: optimizer for optimizer in (Sgd, Adam, AdamW)}


def create_optimizer(name: str, members: Sequence[Mapping[str, Any]], parameters: Tensor) -> Optimizer:
    """Return the optimizer of this name for M members with `parameters` `(M, P)`, before its first step.

    `members` holds the settings of each member, perhaps among other values. A setting that a member lacks has
    the default of the hyperparameter.
    """
    optimizer = OPTIMIZERS[name]
    settings = columns(optimizer.setting_names, members, parameters, optimizer.setting_dtype)
    return optimizer(settings, parameters)
