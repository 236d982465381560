"""What `hpo status` and `hpo study list` print with `--json`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = float | None
Times = Annotated[Number, Field(description="Seconds; null if unknown.")]
Stage = Literal["search", "full"]


class Output(BaseModel):
    """A JSON object with these keys and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ObjectiveOutput(Output):
    """What trials are ranked by."""

    metric: str
    direction: Literal["minimize", "maximize"]


class BestOutput(Output):
    """The best trial of a stage."""

    trial: int = Field(description="Number of the trial.")
    value: float = Field(description="Objective.")
    params: dict[str, Any] = Field(description="Parameters by name.")
    accuracy: Number = Field(description="Validation accuracy, as a share; null if it was not measured.")
    metrics: dict[str, Number] = Field(description="Metrics of the kept epoch by name.")


class StoppedOutput(Output):
    """Why a stage is stopped."""

    by: Literal["rule", "user", "failures"]
    reason: str


class FailuresOutput(Output):
    """Failed trials that no trial repeats, without those that diverged."""

    count: int
    trial: int = Field(description="Number of the first of them.")
    reason: str


class BudgetOutput(Output):
    """How much of the budget of a stage is used."""

    used: float
    total: float
    unit: Literal["epochs", "device hours", "trials"]


class LeftOutput(Output):
    """An estimate of the time left, with bounds. All are null if nothing is known."""

    seconds: Times
    low: Times
    high: Times
    basis: str = Field(description="What the estimate rests on, or why there is none.")


class ProgressOutput(Output):
    """How far a stage is."""

    budget: BudgetOutput = Field(description="The budget and how much of it is used.")
    epochs: int = Field(description="Epochs that all trials of the stage have trained.")
    share: float = Field(description="Share of the budget that is used, from 0 to 1.")
    left: LeftOutput = Field(description="Time that the stage still takes.")


class StageOutput(Output):
    """The figures of a stage."""

    budget: int = Field(description="Number of trials there will be.")
    retried: int = Field(description="Trials that repeat a failed one.")
    states: dict[str, int] = Field(description="Number of trials by Optuna's states.")
    paused: int = Field(description="Trials that wait at a rung.")
    distinct_cells: int = Field(description="Distinct points among the trials.")
    best: BestOutput | None = Field(description="The best trial, null before one has completed.")
    device_seconds: float = Field(description="Seconds of all workers.")
    activities: dict[str, float] = Field(description="The device seconds by activity.")
    trial_seconds: dict[str, dict[str, float]] = Field(description="By number of the trial and activity.")
    stopped: StoppedOutput | None = Field(description="Why the stage is stopped, null if it is not.")
    failures: FailuresOutput | None = Field(description="Failed trials, null without any.")
    foreign: dict[str, int] = Field(description="Trials of other programs by state.")
    to_come: int = Field(description="Trials that are still to be suggested.")
    refits: int = Field(description="Trainings on all images among the trials.")
    due: int = Field(description="Trainings on all images that are still to be queued.")


class LiveStageOutput(StageOutput):
    """The figures of a stage, and how far it is."""

    progress: ProgressOutput = Field(description="How far the stage is.")


class WorkerOutput(Output):
    """A running worker."""

    name: str
    device: str
    running: int = Field(description="Number of trials that it holds.")
    quiet_seconds: Number = Field(description="Seconds since its last epoch; null without a pack.")


class LiveWorkerOutput(WorkerOutput):
    """A running worker, and what it does."""

    stage: Stage | None = Field(description="Stage of its trials, null without a trial.")
    trials: list[int] = Field(description="Numbers of its trials.")
    epochs: list[int] | None = Field(description="Least and most trained epochs of these trials.")
    epochs_per_second: Number = Field(description="Epochs of trials per second; null before the first.")
    images_per_second: Number = Field(description="Training images per second; null if not known.")


class BaselineOutput(Output):
    """The best trial of the search against the baseline of the study."""

    trial: int = Field(description="Number of the baseline.")
    value: Number = Field(description="Objective of the baseline, null before it has completed.")
    best: int | None = Field(description="Number of the best trial.")
    gain: Number = Field(description="How much better the best trial is.")
    half_width: Number = Field(description="Half-width of the 95% interval of the gain.")
    is_better: bool = Field(description="Whether the best trial is known to be better.")


class ScoredOutput(Output):
    """A model that was scored on the test part."""

    trials: list[int] = Field(description="Full trainings of the model; several of an ensemble.")
    shifts: int = Field(description="Largest shift of an image in pixels.")
    n: int | None = Field(description="Number of test examples; null if not known.")
    scorings: int = Field(description="How often the model was scored.")


class EventOutput(Output):
    """Something that happened to a trial."""

    time: str = Field(description="Time in UTC.")
    stage: Stage
    trial: int
    worker: str | None
    kind: str = Field(description="What happened, such as claimed, paused, pruned, completed, failed.")
    detail: dict[str, Any]


class StudyOutput(Output):
    """The figures of a study."""

    study: str = Field(description="Name of the study.")
    fingerprint: str = Field(description="Hash of the keys of the study file that must not change.")
    objective: ObjectiveOutput = Field(description="What trials are ranked by.")
    search: StageOutput = Field(description="Figures of the search.")
    full: StageOutput = Field(description="Figures of full training.")
    workers: list[WorkerOutput] = Field(description="Running workers.")
    test_reads: list[ScoredOutput] = Field(description="Models that were scored on the test part.")
    baseline: BaselineOutput | None = Field(default=None, description="Only with a baseline.")


class StatusOutput(StudyOutput):
    """The figures of a study, its progress and its last events."""

    search: LiveStageOutput = Field(description="Figures of the search.")
    full: LiveStageOutput = Field(description="Figures of full training.")
    workers: list[LiveWorkerOutput] = Field(description="Running workers.")  # type: ignore[assignment]
    left: LeftOutput = Field(description="Time that the study still takes.")
    events: list[EventOutput] = Field(description="The last events, oldest first.")
