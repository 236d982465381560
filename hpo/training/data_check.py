"""Check that a study file fits its data: what is refused before anything is trained."""

import json
import logging
from collections.abc import Sequence

import numpy as np

from hpo.data.dataset import ChannelsError, Dataset, Labelled, OwnDataError
from hpo.data.splits import tiny_classes
from hpo.errors import KeyInputError
from hpo.spec.mistakes import SpaceInputError
from hpo.spec.study_spec import StudySpec
from hpo.training.criterion import Criterion
from hpo.values.data_shape import DataShape
from hpo.values.epoch import validation_key
from hpo.values.objective import metrics_among
from hpo.values.parameters import Role, of_role
from hpo.values.wording import counted

log = logging.getLogger("hpo.training")


def check_data(spec: StudySpec, dataset: Dataset, train: Labelled, std: Sequence[float]) -> None:
    """Raise DataError for a training part from which nothing can be learned, or that its means do not fit,
    and KeyInputError for shifts that it does not allow.

    `std`: the standard deviation of each channel of the training part. Logs a warning for what is odd.
    """
    _check_targets(dataset, train)
    _check_shifts(spec.export.shifts, train)
    noun = "channel" if len(train.shape) > 1 else "feature"
    given, inputs = spec.data.mean, f"{train.noun}s"
    if isinstance(given, tuple) and len(given) != train.channels:
        raise ChannelsError(f"the {inputs} have {counted(train.channels, noun)}")
    if train.is_images and given is not None:
        means = given if isinstance(given, tuple) else (given,)
        if not 0 <= min(means) <= max(means) <= 1:
            raise ChannelsError("means of images are those of pixels / 255, from 0.0 to 1.0")
    constant = [channel for channel, value in enumerate(std) if value == 0]
    if len(constant) == train.channels and _are_equal(train):
        raise OwnDataError(f"all training {inputs} are equal, there is nothing to learn")
    if constant and spec.data.std is None:
        text = "%s: %s %d has one value in all training %s"
        log.warning(text, dataset.name, noun, constant[0], inputs)


def _check_shifts(shifts: int, train: Labelled) -> None:
    if not shifts:
        return
    if not train.is_images:
        rule = "the inputs are no images of bytes, which can be shifted; leave the key out"
        raise KeyInputError(f"export.shifts = {shifts}", rule)
    if shifts >= min(train.size):
        raise KeyInputError(
            f"export.shifts = {shifts}", f"must be below {min(train.size)}, a side of the images"
        )


def _are_equal(train: Labelled) -> bool:
    return bool((train.images == train.images[0]).all())


def _check_targets(dataset: Dataset, train: Labelled) -> None:
    classes, labels, noun = dataset.classes, train.labels, train.noun
    if classes is None:
        if (labels == labels[0]).all():
            raise OwnDataError("all training targets are equal, there is nothing to learn")
        return
    numbers = labels.astype(np.int64, copy=False)
    missing = np.setdiff1d(np.arange(len(classes)), numbers)
    if len(missing) == len(classes) - 1:
        raise OwnDataError(f"all training {noun}s are of one class")
    if len(missing):
        log.warning("%s: no training %s is of class %r", dataset.name, noun, classes[missing[0]])
    for label in tiny_classes(numbers):
        text = "%s: class %r has too few %ss to be split: full training gets all of them"
        log.warning(text, dataset.name, classes[label], noun)


def check_study(spec: StudySpec, shape: DataShape, criterion: Criterion) -> None:
    """Raise KeyInputError for a key of the study file that does not fit the data.

    Augmentation is for images, settings of the cross entropy are for classes, and a metric must be measured.
    """
    if len(shape.input) != 3:
        for name in of_role(spec.space.domains, Role.AUGMENTATION):
            raise SpaceInputError(name, f"{_NO_IMAGES}; leave the key out")
        if spec.full.augmentation is not None:
            raise KeyInputError("full.augment", f"{_NO_IMAGES}; {_way_out(spec, 'section', 'false')}")
    if shape.classes is None or criterion.own_loss is not None:
        rule = "changes the cross entropy of classes, and the study has another loss"
        for name in of_role(spec.space.domains, Role.LOSS):
            raise SpaceInputError(name, f"{rule}; leave the key out")
        for name in of_role(spec.full.params(spec.space.domains), Role.LOSS):
            raise KeyInputError(f"full.{name}", f"{rule}; {_way_out(spec, 'key', '0')}")
    for key, metric in (("objective", spec.objective.metric), ("promotion", spec.promotion.metric)):
        if metric is not None and validation_key(metric) not in criterion.names:
            targets = "numbers" if shape.classes is None else "classes"
            known = ", ".join(measured.name for measured in metrics_among(criterion.names))
            rule = f"is not measured, because the targets are {targets}: must be one of {known}"
            raise KeyInputError(f"{key}.metric = {json.dumps(metric)}", rule)


_NO_IMAGES = "the inputs are no images (N, C, H, W), which augmentation needs"


def _way_out(spec: StudySpec, noun: str, off: str) -> str:
    """Return how a key of `[full]` is left out, which a recipe may have set."""
    return f"leave the {noun} out" if spec.full.recipe is None else f"set it to {off}"
