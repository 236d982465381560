"""The metrics of an exported model on labelled examples, computed in bounded memory."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hpo.errors import InputError, one_line
from hpo.export.analysis.folding import folding_of
from hpo.export.analysis.predictions import Predictions
from hpo.export.bundle import Bundle
from hpo.export.ensemble import with_shifts
from hpo.export.examples import Examples
from hpo.export.metrics import AnyMetrics
from hpo.export.scoring import as_probabilities, metrics_of, outputs, own_metrics, regression_metrics
from hpo.training.criteria import criterion_of
from hpo.training.criterion import Criterion
from hpo.user_code import is_reference, user_code

Progress = Callable[[int], None]
"""Is told how many examples have been evaluated since the last call."""


def ignore(_count: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The metrics of a model, and of a model of classes the predictions behind them."""

    metrics: AnyMetrics
    predictions: Predictions | None


def criterion_of_bundle(bundle: Bundle) -> Criterion:
    """Return the loss and the metrics that a bundle was tested with, which its provenance names.

    Raises `InputError` if a user's own loss or metric cannot be imported.
    """
    spec = bundle.provenance.get("spec")
    model: Any = spec.get("model") if isinstance(spec, Mapping) else None
    given = model if isinstance(model, Mapping) else {}
    loss, metrics = given.get("loss"), given.get("metrics") or {}
    try:
        return criterion_of(bundle.spec.shape, loss, dict(sorted(metrics.items())))
    except InputError as error:
        raise InputError(f"{bundle.directory}: {error}") from error


def check_device(name: str) -> None:
    """Raise `InputError` for a device that torch cannot use."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: {one_line(error)}") from error


def measure(bundle: Bundle, examples: Examples, device: str, progress: Progress = ignore) -> Measured:
    """Return the metrics of a bundle's model on one example or more, as `metrics.json` has them.

    Memory grows by some bytes for each example of a classification. A user's own metrics and a regression
    need the outputs for all examples. Raises `InputError` as `Bundle.model` and `criterion_of_bundle` do, and
    if the user's own code raises, and `HpoError` for NaN.
    """
    criterion = criterion_of_bundle(bundle)
    with _own_code(bundle, criterion):
        return _measure(bundle, criterion, examples, device, progress)


def _own_code(bundle: Bundle, criterion: Criterion) -> AbstractContextManager[None]:
    """Return what turns an error in the user's own network, loss or metrics into one line."""
    functions = filter(None, (criterion.own_loss, *criterion.own_metrics.values()))
    names = [bundle.spec.name, *(function.reference for function in functions)]
    own = [name for name in names if is_reference(name)]
    if not own:
        return nullcontext()
    return user_code(f"{bundle.directory}: {' or '.join(own)}", InputError, own[0].partition(":")[0])


def _measure(
    bundle: Bundle, criterion: Criterion, examples: Examples, device: str, progress: Progress
) -> Measured:
    spec, normalization = bundle.spec, bundle.spec.normalization
    model = with_shifts(bundle.model, spec.shifts, normalization, of_classes=bool(spec.classes)).to(device)
    folding = folding_of(bundle.classes)
    raws, all_targets, losses, parts = list[Tensor](), list[Tensor](), list[Tensor](), list[Predictions]()
    for inputs, targets in examples.chunks():
        raw = outputs(model, inputs, normalization, device)
        if bundle.classes:
            parts.append(Predictions.of(targets.numpy(), as_probabilities(raw), folding))
        if criterion.own_loss is not None:
            losses.append(criterion.own_loss(criterion.as_given(raw, targets), targets))
        if not bundle.classes or criterion.own_metrics:
            raws.append(raw)
            all_targets.append(targets)
        progress(len(targets))
    if not bundle.classes:
        return Measured(regression_metrics(torch.cat(raws), torch.cat(all_targets), criterion), None)
    predictions = Predictions.join(parts)
    measured = metrics_of(predictions, bundle.classes)
    if raws:
        measured = replace(measured, own=own_metrics(torch.cat(raws), torch.cat(all_targets), criterion))
    if losses:
        measured = replace(measured, loss=float(torch.cat(losses).double().mean()))
    return Measured(measured, predictions)
