"""Claims with positional arguments, and trials that complete without training."""

from collections.abc import Iterable
from typing import Any

from hpo.store import results
from hpo.store.connection import Storage
from hpo.study import schedule
from hpo.study.schedule import ClaimRequest, LeasedTrial
from hpo.study.study import Study
from hpo.values.parameters import pack_key
from hpo.values.space import Point
from hpo.values.stage import Stage
from support.outcomes import loss, trained


def claim(
    storage: Storage, study: Study, stage: Stage, worker: str, width: int, **options: Any
) -> list[LeasedTrial]:
    """Claim up to `width` trials; `options` are further fields of `ClaimRequest`.

    `batch_size` and the keys of `width_limits` are batch sizes in place of pack keys.
    """
    if "batch_size" in options:
        options["key"] = pack_key({"batch_size": options.pop("batch_size")})
    if "width_limits" in options:
        limits = options["width_limits"].items()
        options["width_limits"] = {pack_key({"batch_size": size}): limit for size, limit in limits}
    request = ClaimRequest(stage=stage, worker=worker, width=width, **options)
    return schedule.claim(storage, study, request)


def claim_lost(
    storage: Storage, study: Study, stage: Stage, worker: str, width: int, batch_size: int, **options: Any
) -> list[LeasedTrial]:
    """Claim up to `width` lost trials of the batch size; `options` are further fields of `ClaimRequest`."""
    request = ClaimRequest(
        stage=stage, worker=worker, width=width, key=pack_key({"batch_size": batch_size}), **options
    )
    return schedule.claim_lost(storage, study, request)


def finish(storage: Storage, trials: Iterable[LeasedTrial]) -> None:
    """Complete trials with the losses of their points."""
    with storage.transaction() as connection:
        for trial in trials:
            results.finish(connection, {trial.lease.trial_id: trained(loss(trial.point))})


def serve_alone(storage: Storage, study: Study, width: int) -> list[Point]:
    """Complete a search with one worker; return the points in the order of its claims."""
    points = []
    while trials := claim(storage, study, "search", "one", width):
        points += [trial.point for trial in trials]
        finish(storage, trials)
    return points
