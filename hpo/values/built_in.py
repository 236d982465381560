"""The hyperparameters of the built-in training."""

from collections.abc import Mapping

from hpo.values.conditions import Condition
from hpo.values.parameter import Parameter, Role

OPTIMIZERS = ("sgd", "adam", "adamw")
"""The optimizers that a study may choose, the first by default."""

SCHEDULES = ("constant", "step", "cosine", "one-cycle")
"""The learning-rate schedules that a study may choose, the first by default."""

CLASS_WEIGHTS = ("none", "balanced")
"""The weights of classes that a study may choose, the first by default."""

UNSET_AUGMENTATION = "Unset: none in the search, and that of `full.augment` in full training."

PARAMETERS: Mapping[str, Parameter] = {
    "lr": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.01,
        rule="a number above 0",
        allows=lambda value: value > 0,
        meaning="Learning rate of the optimizer.",
    ),
    "batch_size": Parameter(
        kind="integer",
        role=Role.PACK,
        default=64,
        rule="a whole number of at least 2",
        allows=lambda value: value >= 2,
        meaning="Images per training step.",
    ),
    "momentum": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.9,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Momentum of SGD.",
        when=Condition("optimizer", ("sgd",)),
    ),
    "weight_decay": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.0,
        rule="a number of at least 0",
        allows=lambda value: value >= 0,
        meaning="Weight decay: an L2 penalty with SGD and Adam, decoupled from the gradient with AdamW.",
    ),
    "optimizer": Parameter(
        kind="text",
        role=Role.PACK,
        default=OPTIMIZERS[0],
        rule=f"one of {', '.join(OPTIMIZERS)}",
        allows=lambda value: value in OPTIMIZERS,
        meaning="Optimizer of the search and of the first phase of full training.",
    ),
    "nesterov": Parameter(
        kind="boolean",
        role=Role.OPTIMIZER,
        default=False,
        rule="true or false",
        allows=lambda _: True,
        meaning="Nesterov momentum.",
        when=Condition("optimizer", ("sgd",)),
    ),
    "beta1": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.9,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Decay of the mean of the gradients.",
        when=Condition("optimizer", ("adam", "adamw")),
    ),
    "beta2": Parameter(
        kind="number",
        role=Role.OPTIMIZER,
        default=0.999,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Decay of the mean of the squared gradients.",
        when=Condition("optimizer", ("adam", "adamw")),
    ),
    "schedule": Parameter(
        kind="text",
        role=Role.SCHEDULE,
        default=SCHEDULES[0],
        rule=f"one of {', '.join(SCHEDULES)}",
        allows=lambda value: value in SCHEDULES,
        meaning="Learning rate over the epochs of the search, or of the first phase of full training. "
        "`step`: times 0.1 at a half and at three quarters of the steps. `cosine`: falls to 0. "
        "`one-cycle`: rises from lr/25 to lr over 30% of the steps, then falls to lr/250000.",
    ),
    "warmup": Parameter(
        kind="number",
        role=Role.SCHEDULE,
        default=0.0,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Share of the steps in which the learning rate rises linearly from 0, as a factor of the "
        "schedule.",
        when=Condition("schedule", ("constant", "step", "cosine")),
    ),
    "label_smoothing": Parameter(
        kind="number",
        role=Role.LOSS,
        default=0.0,
        rule="a number from 0 to 1",
        allows=lambda value: 0 <= value <= 1,
        meaning="Share of each label that is spread evenly over all classes in the training loss.",
    ),
    "class_weights": Parameter(
        kind="text",
        role=Role.LOSS,
        default=CLASS_WEIGHTS[0],
        rule=f"one of {', '.join(CLASS_WEIGHTS)}",
        allows=lambda value: value in CLASS_WEIGHTS,
        meaning="Weights of the classes in the training loss. `balanced`: images / (classes * images of the "
        "class), so that all classes count the same.",
    ),
    "dropout": Parameter(
        kind="number",
        role=Role.DROPOUT,
        default=None,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning="Rate of every dropout layer of the network. Unset: the rates of the network.",
    ),
    "clip": Parameter(
        kind="number",
        role=Role.CLIP,
        default=None,
        rule="a number above 0",
        allows=lambda value: value > 0,
        meaning="Largest gradient norm; longer gradients are clipped. Unset: no clipping in the search, "
        "and `full.clip` in full training.",
    ),
    "rotation": Parameter(
        kind="number",
        role=Role.AUGMENTATION,
        default=None,
        rule="a number from 0 to 180",
        allows=lambda value: 0 <= value <= 180,
        meaning=f"Largest angle of random rotation of the training images, in degrees. {UNSET_AUGMENTATION}",
    ),
    "shift": Parameter(
        kind="number",
        role=Role.AUGMENTATION,
        default=None,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning=f"Largest random translation, as a share of the side of an image. {UNSET_AUGMENTATION}",
    ),
    "scaling": Parameter(
        kind="number",
        role=Role.AUGMENTATION,
        default=None,
        rule="a number from 0 to below 1",
        allows=lambda value: 0 <= value < 1,
        meaning=f"Random factors of scaling are from 1 - scaling to 1 + scaling. {UNSET_AUGMENTATION}",
    ),
    "shear": Parameter(
        kind="number",
        role=Role.AUGMENTATION,
        default=None,
        rule="a number from 0 to below 90",
        allows=lambda value: 0 <= value < 90,
        meaning=f"Largest angle of random shearing, in degrees. {UNSET_AUGMENTATION}",
    ),
}
