"""The evaluation of a bundle on a data set of this machine."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpo.data import Dataset
from hpo.errors import InputError
from hpo.export.any_bundle import load_bundle
from hpo.export.function_bundle import FunctionBundle
from hpo.run.workload import mapped_dataset
from hpo.settings import Settings

if TYPE_CHECKING:  # they import torch
    from hpo.export.analysis import Analysed, ErrorAnalysis, Predictions
    from hpo.export.bundle import Bundle
    from hpo.export.examples import Examples
    from hpo.export.metrics import AnyMetrics

Part = Literal["train", "test", "all"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class BundleEvaluation:
    """The metrics of a bundle on a part of a data set.

    notes         what a reader of the metrics has to know, one line each
    predictions   of a classification: the prediction for each example, in the order of the data set
    """

    bundle: "Bundle"
    data: str
    part: Part
    metrics: "AnyMetrics"
    notes: tuple[str, ...]
    predictions: "Predictions | None"
    examples: "Examples" = field(repr=False)

    def analyse(self) -> "ErrorAnalysis":
        """Return where the errors are. Raises `InputError` for a regression."""
        from hpo.export.analysis import analyse

        analysed = self.analysed()
        return analyse(analysed.predictions, analysed.classes)

    def analysed(self) -> "Analysed":
        """Return what an analysis of the errors is made from. Raises `InputError` for a regression."""
        from hpo.export.analysis import Analysed

        check_classes(self.bundle)
        assert self.predictions is not None
        image_of = self.examples.image_of if self.examples.are_images else None
        return Analysed(self.predictions, self.bundle.classes, self.data, self.part, image_of)


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate, as `evaluate_bundle` gets it."""

    directory: Path
    data: str | None = None
    part: Part = "test"
    device: str = "cpu"
    analysis: bool = False


def evaluate_bundle(
    directory: Path | str, data: str | None = None, part: Part = "test", device: str = "cpu"
) -> BundleEvaluation:
    """Return the metrics of a bundle on a part of a data set: `train`, `test`, or `all` for both.

    `data`: a name of `hpo data list` or a function of your own as `package.module:function`; None: the data
    set that the model was trained on. Classes are matched by name. Images of another size are scaled. Nothing
    is written to the bundle. Raises `NotFoundError` if the folder does not exist, DataError if the data are
    missing, and `InputError` if they do not fit the model.
    """
    return evaluate(EvaluationRequest(Path(directory), data, part, device), lambda _advance, _total: None)


def evaluate(request: EvaluationRequest, progress: Progress) -> BundleEvaluation:
    """Evaluate a bundle, see `evaluate_bundle`. `progress` gets the numbers of new and of all examples."""
    bundle = load_bundle(request.directory)
    if isinstance(bundle, FunctionBundle):
        raise InputError(f"{request.directory}: the bundle of a training function has no network to evaluate")
    if request.analysis:
        check_classes(bundle)
    name = request.data or bundle.provenance.get("data")
    if not isinstance(name, str):
        raise InputError(f"{request.directory}: its provenance names no data set; give --data")
    dataset = mapped_dataset(name, Settings.from_environment())

    from hpo.export.evaluator import check_device, measure
    from hpo.export.examples import Examples

    check_device(request.device)
    examples = Examples.of(bundle.spec, dataset, request.part)
    measured = measure(bundle, examples, request.device, lambda advance: progress(advance, len(examples)))
    notes = tuple(_notes(bundle, dataset, request.part, examples))
    return BundleEvaluation(
        bundle, name, request.part, measured.metrics, notes, measured.predictions, examples
    )


def check_classes(bundle: "Bundle") -> None:
    """Raise `InputError` for a regression, whose errors cannot be analysed."""
    if not bundle.classes:
        raise InputError(
            f"{bundle.directory}: the model predicts numbers; an analysis of errors is of classes"
        )


def _notes(bundle: "Bundle", dataset: Dataset, part: Part, examples: "Examples") -> Iterator[str]:
    origin, facts = bundle.provenance, dataset.facts
    assert facts is not None, "the data set is mapped"
    is_same = facts.hashes.train == origin.get("data_sha256")
    is_named = dataset.name == origin.get("data")
    if is_named and not is_same:
        yield f"{dataset.name}: the training examples are others than those of the bundle's study"
    if (is_named or is_same) and part != "train":
        yield f"the test part of {dataset.name} is read once more{_reads(bundle)}; choose nothing by it"
    if (is_named or is_same) and part != "test":
        yield f"the model was trained on examples of the train part of {dataset.name}"
    classes = dataset.classes or ()
    if len(classes) < len(bundle.classes):
        yield (
            f"{dataset.name} has {len(classes)} of the {len(bundle.classes)} classes of the model; "
            "macro means count the others as 0"
        )
    if examples.are_scaled:
        yield f"images are scaled to the {'x'.join(map(str, bundle.spec.image_size or ()))} of the model"


def _reads(bundle: "Bundle") -> str:
    """Return how often the study of the bundle had read the test part, if the bundle says so."""
    reads = bundle.provenance.get("test_reads")
    if not isinstance(reads, list):
        return ""
    return f" (the bundle's study had scored {len(reads)} model{'' if len(reads) == 1 else 's'} on it)"
