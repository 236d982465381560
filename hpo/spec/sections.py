"""The sections of a study file that have no module of their own."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from hpo.data import DataError
from hpo.data import check as check_dataset
from hpo.data import names as dataset_names
from hpo.values.epoch import METRIC_NAME
from hpo.values.objective import Direction
from hpo.values.section import Section, rule_error, section_error
from hpo.values.wording import counted

PerChannel = float | tuple[float, ...]
"""One number for all channels of the inputs, or one for each."""


def _per_channel(raw: object, breaks: Callable[[float], str | None]) -> object:
    """Parse one number or a list of numbers. `breaks` returns the rule that a number breaks."""
    values = raw if isinstance(raw, list | tuple) else (raw,)
    if not values or any(type(value) not in (int, float) for value in values):
        raise rule_error("must be a number, or a list of one number per channel")
    for value in values:
        if rule := "must be a finite number" if not math.isfinite(value) else breaks(value):
            raise rule_error(rule)
    return tuple(map(float, values)) if isinstance(raw, list | tuple) else float(values[0])


def _mean(raw: object, info: ValidationInfo) -> object:
    has_images = info.data.get("name") in dataset_names()  # only your own data may be others

    def breaks(value: float) -> str | None:
        if not has_images:
            return None
        return "must be at least 0.0" if value < 0 else "must be at most 1.0" if value > 1 else None

    return None if raw is None else _per_channel(raw, breaks)


def _std(raw: object) -> object:
    def breaks(value: float) -> str | None:
        return None if value > 0 else "must be above 0.0"

    return None if raw is None else _per_channel(raw, breaks)


def _dataset(name: str) -> str:
    try:
        check_dataset(name)
    except DataError as error:
        raise rule_error(str(error)) from error
    return name


class DataSection(Section):
    """The data set, and how its training images are split and normalised."""

    name: Annotated[str, AfterValidator(_dataset)] = Field(
        description="A data set listed by `hpo data list`, or your own function as `package.module:function`."
    )
    mini: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Share of the training images that the search uses, called mini. "
        "Full training trains on all other images and validates on mini.",
    )
    validation: float = Field(
        default=0.2, gt=0, le=0.5, description="Share of the mini images that the search validates on."
    )
    mean: Annotated[PerChannel | None, BeforeValidator(_mean)] = Field(
        default=None,
        description="Mean of the inputs, for normalisation. Of images: of pixels / 255, 0 to 1. A list has "
        "one number per channel, or per feature of a table. Unset: the mean of the training part. Set `mean` "
        "and `std` together.",
    )
    std: Annotated[PerChannel | None, BeforeValidator(_std)] = Field(
        default=None,
        description="Standard deviation of the inputs, or of pixels / 255, above 0. A list has one number "
        "per channel or feature. Unset: the standard deviation of the training part.",
    )

    @model_validator(mode="after")
    def _together(self) -> "DataSection":
        if (self.mean is None) != (self.std is None):
            raise section_error({"mean" if self.mean is None else "std": "must be given where the other is"})
        if (mean := _count(self.mean)) != (std := _count(self.std)):
            raise section_error({"std": f"has {std}, data.mean has {mean}"})
        return self


def _count(value: PerChannel | None) -> str:
    return counted(len(value), "number") if isinstance(value, tuple) else "one number"


def _metric(name: str | None) -> str | None:
    if name is not None and not METRIC_NAME.fullmatch(name):
        rule = "at most 64 of a-z, A-Z, 0-9, '_', '-', '.', '/' and begin with a letter or '_'"
        raise rule_error(f"must be {rule}")
    return name


class ObjectiveSection(Section):
    """What the trials are ranked by."""

    metric: Annotated[str, AfterValidator(_metric)] = Field(
        default="loss",
        description="Metric of the validation part. `loss`: mean loss per example. Of classes, `accuracy`: "
        "share of right predictions; `macro_f1`: mean F1 score over the classes in labels or predictions; "
        "`balanced_accuracy`: mean recall over the classes in labels. Of numbers, `rmse`: root of the mean "
        "squared error; `mae`: mean absolute error; `r2`: coefficient of determination. Or a name in "
        "`model.metrics`. With `[train]`: the name of any metric that the function yields.",
    )
    direction: Direction | None = Field(
        default=None,
        description="Unset: that of the metric. Losses and errors are minimized, the other metrics are "
        "maximized. Required for a metric of your own, and with `[train]` if `metric` is given.",
    )


class SearchSection(Section):
    """The budget of the search."""

    trials: int = Field(ge=1, le=1_000_000, description="Number of trials. May grow in a stored study.")
    epochs: int = Field(
        ge=1,
        le=1_000_000,
        description="Epochs of a trial that is neither pruned nor paused. With `[train]`: 1 by default.",
    )


class EngineSection(Section):
    """How training steps are computed. The keys affect rounding only, and may change in a stored study."""

    compile: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Compile training steps on a CPU, and capture them as CUDA graphs on a GPU. `auto` does "
        "so for the networks of `hpo models`; on a CPU only if compiled steps are fastest and the stage is "
        "long enough to pay for the compilation. Both replay one recorded execution: use `always` with your "
        "own network only if `forward` depends on nothing but the network's tensors and the input.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of matrix products and convolutions in training. `auto` is float32, except in "
        "searches with `resnet` and `spinalnet`, where `auto` takes the faster precision on this CPU. For "
        "these networks, bfloat16 ranks cells about as well as a second seed does (`python -m "
        "benchmarks.precision`).",
    )


class LimitsSection(Section):
    """Limits that end trials. They may change in a stored study, and apply to workers started afterwards."""

    epoch_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Longest time of an epoch in minutes. A trial that exceeds it fails as timed out. The "
        "trials of a pack first run again, each alone. Compilation before the first epoch does not count. "
        "With `[train]`: the longest time between two yields. "
        "Unset: no limit; `hpo status` and the log show the time without an epoch.",
    )


class PromotionSection(Section):
    """The search trials that are trained in full. Both numbers may grow in a stored study."""

    metric: Annotated[str | None, AfterValidator(_metric)] = Field(
        default=None, description="Metric by which the best search trials are chosen. Unset: the objective."
    )
    direction: Direction | None = Field(
        default=None,
        description="Direction of `metric`. Required for a metric of your own, and with `[train]` if the "
        "objective has another metric.",
    )
    top: int = Field(default=1, ge=1, description="Number of the best search trials to train in full.")
    seeds: int = Field(
        default=1, ge=1, description="Full trainings of each promoted trial, each with a different seed."
    )
