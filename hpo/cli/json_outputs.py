"""What commands print with `--json`: a model for each, from which the reference and the schema are made."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from hpo.cli.status_outputs import Number, Output, Stage, StatusOutput, StoppedOutput, StudyOutput


class RunOutput(Output):
    """The outcome of a study."""

    study: str = Field(description="Name of the study.")
    stopped: StoppedOutput | None = Field(description="Why the study stopped without a model.")
    stage: Stage | None = Field(description="Stage of the best trial.")
    trial: int | None = Field(description="Number of the best full training.")
    value: Number = Field(description="Its objective.")
    params: dict[str, Any] | None = Field(description="Its parameters by name.")
    metrics: dict[str, Any] | None = Field(description="Test metrics as in metrics.json of the bundle.")
    bundle: str | None = Field(description="Folder of the bundle.")


class ExportOutput(Output):
    """The best trial of a study, and the bundle that was written."""

    study: str = Field(description="Name of the study.")
    stage: Stage = Field(description="Stage of the trial.")
    trial: int = Field(description="Number of the trial.")
    value: float = Field(description="Objective.")
    params: dict[str, Any] = Field(description="Parameters by name.")
    metrics: dict[str, Number] = Field(description="Metrics of the kept epoch by name.")
    bundle: str | None = Field(description="Folder of the bundle, null without --bundle.")


class PromoteOutput(Output):
    """The promoted trials."""

    study: str = Field(description="Name of the study.")
    stopped: StoppedOutput | None = Field(description="Why nothing is promoted.")
    trials: list[int] = Field(description="Numbers of the promoted search trials, best first.")
    added: int = Field(description="Full trainings that this call has queued.")


class CreateOutput(Output):
    """A study that was created or updated."""

    study: str = Field(description="Name of the study.")
    did: str = Field(description="What happened to the study: created, extended, or unchanged.")
    queued: int = Field(description="Trials that this call has queued.")
    inherited: int = Field(description="Trials of the study that it was forked from.")


class ChangeOutput(Output):
    """A study that was stopped or resumed."""

    study: str = Field(description="Name of the study.")
    changed: list[Stage] = Field(description="Stages whose state has changed.")
    running: int = Field(description="Trials that still have to finish.")
    waiting: int = Field(description="Trials that wait.")


class RetryOutput(Output):
    """Failed trials that were queued again."""

    study: str = Field(description="Name of the study.")
    queued: dict[str, dict[str, int]] = Field(
        description="By stage and number of the failed trial, the number of its successor."
    )
    diverged: int = Field(description="Trials that were left out, as their loss was not finite.")
    adopted: bool = Field(description="Whether the study has accepted new code.")


class ClassOutput(Output):
    """A class and its probability."""

    class_: str = Field(alias="class")
    probability: float


class PredictOutput(Output):
    """The classes of an image, the most probable first."""

    image: str = Field(description="Path of the image.")
    ranking: list[ClassOutput] = Field(description="Classes with their probabilities.")


class EvaluateOutput(Output):
    """The metrics of a model on a data set."""

    bundle: str = Field(description="Folder of the bundle.")
    data: str = Field(description="Name of the data set.")
    part: Literal["train", "test", "all"]
    notes: list[str] = Field(description="What is special about the data.")
    metrics: dict[str, Any] = Field(description="Metrics as in metrics.json of a bundle.")


class TransferOutput(Output):
    """A bundle for the classes of another data set."""

    bundle: str = Field(description="Folder of the new bundle.")
    data: str = Field(description="Name of the data set.")
    new_layers: list[str] = Field(description="Names of the layers that began with new weights.")
    metrics: dict[str, Any] = Field(description="Metrics as in metrics.json of a bundle.")


class FigureOutput(Output):
    """A figure of a plan. All numbers are null if it is not known."""

    name: str
    unit: Literal["epochs", "seconds", "device hours", "bytes"]
    low: Number
    expected: Number
    high: Number
    basis: str = Field(description="What the figure rests on.")


class PlanOutput(Output):
    """What a study will take."""

    study: str = Field(description="Name of the study.")
    device: str = Field(description="Devices of the workers.")
    workers: int = Field(description="Number of workers.")
    figures: list[FigureOutput] = Field(description="Figures with bounds, and the basis of each.")


class FindingOutput(Output):
    """The result of a check."""

    subject: str
    good: bool
    says: str
    advice: str = Field(description="How to fix it; empty if nothing needs fixing.")


class ModelOutput(Output):
    """A network."""

    name: str
    parameters: int
    forward_flops: int = Field(description="Operations for an image of 28x28.")


class ThroughputOutput(Output):
    """Images per second by variant."""

    batch_size: int
    purpose: str = Field(description="Optimizer of the step, or evaluation.")
    images_per_second: dict[str, float]
    chosen: str = Field(description="The fastest variant.")


class MeanOutput(Output):
    """A mean over replays."""

    mean: float
    error: Number = Field(description="Standard error.")


class DataOutput(Output):
    """The training part of a data set. Images have `images`, `channels` and `size`, others the rest."""

    name: str
    images: int | None = Field(default=None, description="Number of images.")
    channels: int | None = None
    size: list[int] | None = Field(default=None, description="Height and width.")
    examples: int | None = Field(default=None, description="Number of inputs that are no images.")
    input: list[int] | None = Field(default=None, description="Shape of an input.")
    target: list[int] | None = Field(default=None, description="Shape of a target.")
    classes: dict[str, int] | None = Field(description="Number of examples by class.")
    mean: list[float] = Field(description="By channel or feature.")
    std: list[float] = Field(description="By channel or feature.")
    sha256: str = Field(description="Hash of inputs and labels.")


class ServerOutput(Output):
    """The embedded server."""

    running: bool
    ready: bool = Field(description="Whether it accepts connections.")
    pid: int | None
    url: str | None
    folder: str
    reason: str | None = Field(description="Why it cannot be reached.")


class UrlOutput(Output):
    """The URL of the embedded server."""

    url: str


class FileOutput(Output):
    """The file that was written."""

    file: str


OUTPUTS: Mapping[str, Any] = {
    "run": RunOutput,
    "plan": PlanOutput,
    "status": StatusOutput,
    "promote": PromoteOutput,
    "export": ExportOutput,
    "predict": list[PredictOutput],
    "evaluate": EvaluateOutput,
    "transfer": TransferOutput,
    "report": FileOutput,
    "doctor": list[FindingOutput],
    "models": list[ModelOutput],
    "tune": list[ThroughputOutput],
    "replay": dict[str, dict[str, MeanOutput]],
    "study create": CreateOutput,
    "study fork": CreateOutput,
    "study list": list[StudyOutput],
    "study stop": ChangeOutput,
    "study resume": ChangeOutput,
    "study retry": RetryOutput,
    "data list": list[str],
    "data info": DataOutput,
    "server status": ServerOutput,
    "server url": UrlOutput,
}
"""What each command prints, by the words after `hpo`. `hpo study show` has a schema of its own."""


def adapter_of(command: str) -> TypeAdapter[Any]:
    """Return what checks the output of a command."""
    return TypeAdapter(OUTPUTS[command])


def check(command: str, text: str) -> None:
    """Raise pydantic's `ValidationError` if `text` is no output of the command."""
    adapter_of(command).validate_json(text)
