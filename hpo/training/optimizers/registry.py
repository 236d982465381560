"""The optimizers by name. To add an optimizer, add its file and its class here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hpo.training.columns import columns_of
from hpo.training.optimizers.adam import Adam
from hpo.training.optimizers.adamw import AdamW
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.sgd import Sgd
from hpo.values.budget import Phase
from hpo.values.parameters import Role, of_role

OPTIMIZERS: Mapping[str, type[Optimizer]] = {optimizer.name: optimizer for optimizer in (Sgd, Adam, AdamW)}


def create_optimizer(
    name: str, members: Sequence[Mapping[str, Any]], parameters: Tensor, in_use: Collection[str] = ()
) -> Optimizer:
    """Return the optimizer of this name for M members with `parameters` `(M, P)`, before its first step.

    `members` holds the settings of each member, perhaps among other values. A setting that a member lacks has
    the default of the hyperparameter. Optional settings are left out unless they are `in_use`.
    """
    optimizer = OPTIMIZERS[name]
    names = (*optimizer.setting_names, *optional_settings(name, in_use))
    return optimizer(columns_of(names, members, parameters, optimizer.setting_dtype), parameters)


def step_columns(phase: Phase, in_use: Iterable[str]) -> list[str]:
    """Return the columns in use that change the steps of a phase, also those of the phase's `params`.

    These are the columns of the loss, of clipping and of dropout, and optional settings of the optimizer
    where members have their own.
    """
    names = list(dict.fromkeys([*in_use, *phase.params]))
    settings = optional_settings(phase.optimizer, names) if phase.settings is None else []
    roles = (Role.LOSS, Role.CLIP, Role.DROPOUT)
    return [*settings, *(name for role in roles for name in of_role(names, role))]


def optional_settings(name: str, in_use: Collection[str]) -> list[str]:
    """Return the optional settings of the optimizer of this name that are among `in_use`."""
    return [setting for setting in OPTIMIZERS[name].optional_names if setting in in_use]
