"""Claim the trials of a worker's packs."""

from hpo.study.schedule import ClaimRequest, LeasedTrial, claim, claim_lost
from hpo.values.stage import Stage
from hpo.values.vocabulary import PackKey
from hpo.worker.context import WorkerContext


class Claims:
    """Claims packs, no wider than fits into the memory of the device."""

    def __init__(self, context: WorkerContext) -> None:
        self._storage, self._study, self._settings = context.storage, context.study, context.settings
        self._width = min(self._settings.width, self._study.spec.max_width or self._settings.width)
        self._max_widths: dict[tuple[Stage, PackKey], int] = {}

    def width(self, stage: Stage, key: PackKey) -> int:
        """Return the largest width of a pack of this stage and pack key."""
        return min(self._width, self._max_widths.get((stage, key), self._width))

    def limit_width(self, stage: Stage, key: PackKey, width: int) -> None:
        """From now on, claim packs of this stage and pack key with at most `width` trials."""
        self._max_widths[stage, key] = width

    def claim(self, stage: Stage) -> list[LeasedTrial]:
        """Return the trials of a new pack, all of one pack key. Empty: there is nothing to train."""
        settings = self._settings
        request = ClaimRequest(
            stage=stage,
            worker=settings.name,
            width=settings.width,
            lease_seconds=settings.lease_seconds,
            width_limits={key: width for (of, key), width in self._max_widths.items() if of == stage},
            fleet=settings.fleet,
            max_suggestions=settings.width if settings.fills_packs else None,
        )
        return claim(self._storage, self._study, request)

    def claim_more(self, stage: Stage, key: PackKey, width: int) -> list[LeasedTrial]:
        """Return at most `width` trials that join a running pack."""
        settings = self._settings
        request = ClaimRequest(
            stage=stage,
            worker=settings.name,
            width=width,
            lease_seconds=settings.lease_seconds,
            fleet=settings.fleet,
            key=key,
        )
        if settings.fills_packs:
            return claim(self._storage, self._study, request)
        # A trial that no worker has begun is better left to the next free worker.
        return claim_lost(self._storage, self._study, request)
