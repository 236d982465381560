"""The section `[model]` of a study file: a network, its loss and its metrics."""

import json
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from hpo.models import ModelError, check, check_function, names
from hpo.values.epoch import validation_key
from hpo.values.objective import OBJECTIVES
from hpo.values.section import Section, rule_error

OWN_NAME = r"[a-z][a-z0-9_]{0,31}"

BUILT_IN_METRICS = frozenset(
    key.removeprefix(validation_key(""))
    for objective in OBJECTIVES.values()
    for key in (objective.key, objective.error_key)
    if key is not None
)
"""Names of metrics, and of their standard errors, that a user's own metric cannot have."""


def _model(name: str) -> str:
    try:
        check(name)
    except ModelError as error:
        raise rule_error(str(error)) from error
    return name


def _function(reference: str | None) -> str | None:
    if reference is not None:
        try:
            check_function(reference)
        except ModelError as error:
            raise rule_error(str(error)) from error
    return reference


def _metrics(metrics: dict[str, str] | None) -> dict[str, str] | None:
    for name, reference in (metrics or {}).items():
        quoted = json.dumps(name)
        if not re.fullmatch(OWN_NAME, name):
            raise rule_error(f"name {quoted}: must be at most 32 of a-z, 0-9, '_' and begin with a letter")
        if name in BUILT_IN_METRICS:
            raise rule_error(f"name {quoted}: hpo has a metric of this name")
        _function(reference)
    return metrics or None


class ModelSection(Section):
    """The network, and what it is trained for."""

    name: Annotated[str, AfterValidator(_model)] = Field(
        description="A network listed by `hpo models`, or your own class as `package.module:Class`. "
        "The data decide two keywords of the class: `classes` or `outputs`, `in_channels` or `in_features`."
    )
    loss: Annotated[str | None, AfterValidator(_function)] = Field(
        default=None,
        description="Your own loss as `package.module:function`: of outputs and targets `(B, ...)`, the loss "
        "of each example `(B,)`. Unset: cross entropy of classes, mean squared error of numbers.",
    )
    metrics: Annotated[dict[str, str] | None, AfterValidator(_metrics)] = Field(
        default=None,
        description="Table of your own metrics by name, each as `package.module:function`: of all validation "
        "outputs and targets `(N, ...)`, one number. A metric may be the objective.",
    )

    @property
    def functions(self) -> tuple[str, ...]:
        """The user's own loss and metrics as `package.module:function`."""
        metrics = sorted((self.metrics or {}).items())
        return (*([] if self.loss is None else [self.loss]), *(reference for _, reference in metrics))

    @property
    def is_built_in(self) -> bool:
        """Whether the network and the loss are hpo's own."""
        return self.name in names() and self.loss is None
