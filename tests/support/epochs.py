"""Results of epochs that nobody trained."""

from typing import Any

from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS, EpochResult


def epoch_result(member: int, epoch: int, loss: float, **changes: Any) -> EpochResult:
    """Return the result of an epoch with this validation loss.

    `changes`: other metrics by name, and fields of `EpochResult`; `metrics` are further ones.
    """
    metrics = {TRAIN_LOSS: 2 * loss, VALIDATION_LOSS: loss, VALIDATION_ACCURACY: 0.5}
    metrics |= {name: changes.pop(name) for name in list(changes) if name in metrics}
    metrics |= changes.pop("metrics", {})
    fields: dict[str, Any] = {
        "seconds": 1.0,
        "evaluation_seconds": 0.25,
        "status": "training",
        "kept_epoch": epoch,
    }
    return EpochResult(member=member, epoch=epoch, metrics=metrics, **fields | changes)
