"""The models of a study that were scored on the test part: each is one read of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from hpo.store import events
from hpo.store.connection import Storage
from hpo.store.events import Event
from hpo.study.study import Study
from hpo.values.wording import counted


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model that was scored on the test part.

    `trials`: the numbers of the full trainings, several of an ensemble. `shifts`: as in `[export]`. `n`: the
    number of test examples, None if a version of hpo scored the model that did not record it. `scorings` is
    above 1 if a process ended between a scoring and the record of the result.
    """

    trials: tuple[int, ...]
    shifts: int = 0
    n: int | None = None
    scorings: int = 1

    def describe(self) -> str:
        """Return the model in words, as in "ensemble of trials 0, 1, 2"."""
        numbers = ", ".join(map(str, self.trials))
        name = f"trial {numbers}" if len(self.trials) == 1 else f"ensemble of trials {numbers}"
        if self.shifts:
            name += f" with shifts of {counted(self.shifts, 'pixel')}"
        return name if self.scorings == 1 else f"{name} (scored {self.scorings} times)"

    def to_json(self) -> dict[str, Any]:
        """Return the model as plain values."""
        return {**asdict(self), "trials": list(self.trials)}


@dataclass(frozen=True, slots=True)
class _Detail:
    """The detail of an event `tested`."""

    trials: tuple[int, ...]
    shifts: int
    n: int


_DETAIL = TypeAdapter(_Detail)


def record_scoring(storage: Storage, study: Study, model: ScoredModel) -> None:
    """Record that a model is about to be scored. The event belongs to the first trial of the model."""
    detail = {"trials": list(model.trials), "shifts": model.shifts, "n": model.n}
    with storage.transaction() as connection:
        events.record(connection, study.full_id, model.trials[0], "tested", detail)


def scored_models(connection: Connection, study: Study) -> tuple[ScoredModel, ...]:
    """Return the models that were scored, in the order of their first scorings.

    Nothing is scored for a training function, which reports its own metrics.
    """
    models: dict[tuple[tuple[int, ...], int], ScoredModel] = {}
    if study.spec.is_function:
        return ()
    for event in events.read(connection, [study.full_id], ("tested", "exported")):
        model = _model(event)
        if model is None:
            continue
        known = models.get((model.trials, model.shifts))
        if known is None:
            models[model.trials, model.shifts] = model
        elif event.kind == "tested":
            models[model.trials, model.shifts] = replace(known, n=model.n, scorings=known.scorings + 1)
    return tuple(models.values())


def describe_reads(models: Sequence[ScoredModel]) -> str:
    """Return how many models were scored, and which."""
    if not models:
        return "test part not read yet"
    names = "; ".join(model.describe() for model in models)
    return f"test part read for {counted(len(models), 'model')}: {names}"


def _model(event: Event) -> ScoredModel | None:
    if event.kind == "exported":
        # Versions that recorded no event `tested` scored the trial itself, and named no trials.
        return None if "trials" in event.detail else ScoredModel((event.trial,))
    try:
        detail = _DETAIL.validate_python(event.detail)
        if detail.trials:
            return ScoredModel(detail.trials, detail.shifts, detail.n)
    except ValidationError:
        pass
    # Another program has changed the row, and the model of its trial was read anyway.
    return ScoredModel((event.trial,))
