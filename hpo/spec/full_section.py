"""The section `[full]` of a study that trains a network: the recipe of full training."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
    model_validator,
)

from hpo.spec.recipes import RecipeName, keeping
from hpo.values.budget import Augmentation, Phase
from hpo.values.parameters import Role, of_role
from hpo.values.section import Section, rule_error, section_error

PARAMS = ("schedule", "warmup", "label_smoothing", "dropout", "nesterov")
"""The keys that are hyperparameters as well. One that the space names takes the place of the key."""


def _validate(raw: object, handler: ValidatorFunctionWrapHandler) -> object:
    if raw is True:
        raise rule_error("must be a value, or false to leave it out")
    return raw if raw is False else handler(raw)


def _serialize(value: object, handler: SerializerFunctionWrapHandler) -> object:
    return value if value is False else handler(value)


OrFalse, FalseAsIs = WrapValidator(_validate), WrapSerializer(_serialize)
"""Let a key also be `false`, for what a recipe or a default sets otherwise. Types do not mention `False`."""


class PhaseSection(Section):
    """A phase of full training."""

    epochs: int = Field(ge=1, le=1_000_000, description="Largest number of epochs.")
    patience: Annotated[int, Field(ge=1), OrFalse, FalseAsIs] = Field(
        default=5,
        description="Early stopping: the phase ends after this many epochs without a new best. `false`: "
        "never. In `[full.pretrain]`, `false` is the default if `full.schedule` is `cosine` or `one-cycle`, "
        "because the rate must reach its end.",
    )


class AdamSection(PhaseSection):
    """The phase of full training with Adam, if there is one. `full.finetune = false`: none."""

    lr: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")


def _as_tuple(raw: object) -> object:
    # Inside of a key that may be `false`, pydantic does not take a list as a tuple.
    return tuple(raw) if isinstance(raw, list) else raw


def _scale(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise rule_error("must be [smallest, largest] with 0 < smallest <= largest")
    return value


class AugmentSection(Section):
    """Random affine maps of the training images in full training. `full.augment = false`: none.

    Strengths that `[space]` names take the place of those here.
    """

    rotation: float = Field(default=0.0, ge=0, le=180, description="Largest angle of rotation in degrees.")
    shift: float = Field(
        default=0.0, ge=0, lt=1, description="Largest translation, as a share of the side of an image."
    )
    scale: Annotated[tuple[float, float], BeforeValidator(_as_tuple), AfterValidator(_scale)] = Field(
        default=(1.0, 1.0), description="Smallest and largest factor of scaling, above 0."
    )
    shear: float = Field(default=0.0, ge=0, lt=90, description="Largest angle of shearing in degrees.")


class FullSection(Section):
    """Full training: a phase with the promoted parameters, then perhaps a phase with Adam.

    A recipe presets the keys that the file leaves out, also those in the tables below. The study keeps these
    values, whatever a later version presets. `false` leaves out a part of a recipe. `schedule`, `warmup`,
    `label_smoothing`, `dropout`, `nesterov` and `clip` have the meaning of the parameters in `[space]`, and
    a parameter that `[space]` names takes the place of the key.
    """

    recipe: RecipeName | None = Field(
        default=None,
        description="`paper`: SGD and then Adam, each until it stops early, with clipping and augmentation. "
        "`modern`: one phase with a one-cycle schedule, label smoothing, Nesterov "
        "momentum, clipping and mild augmentation. Unset: nothing is preset.",
    )
    pretrain: PhaseSection = Field(
        description="The first phase, with the optimizer and the parameters of the trial."
    )
    finetune: Annotated[AdamSection | None, OrFalse, FalseAsIs] = Field(
        default=None, description="The second phase, with Adam. Unset: none."
    )
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = Field(
        default="constant", description="Learning rate over the epochs of the first phase."
    )
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the steps of the first phase in which the rate rises."
    )
    label_smoothing: float = Field(default=0.0, ge=0, le=1, description="Label smoothing, in both phases.")
    dropout: Annotated[float | None, Field(ge=0, lt=1), OrFalse, FalseAsIs] = Field(
        default=None,
        description="Rate of every dropout layer, in both phases. Unset or `false`: those of the network.",
    )
    nesterov: bool = Field(
        default=False, description="Nesterov momentum of trials with SGD, in the first phase."
    )
    ema: Annotated[float | None, Field(gt=0, lt=1), OrFalse, FalseAsIs] = Field(
        default=None,
        description="Decay per step of an exponential moving average of the weights, in each phase. The "
        "average is validated and kept in place of the weights. After t steps the decay is at most "
        "(1 + t) / (10 + t). Unset or `false`: no average.",
    )
    clip: Annotated[float, Field(gt=0), OrFalse, FalseAsIs] = Field(
        default=1.0,
        description="Largest gradient norm; longer gradients are clipped. `false`: no clipping. "
        "`space.clip` takes its place.",
    )
    augment: Annotated[AugmentSection | None, OrFalse, FalseAsIs] = Field(
        default=None, description="Augmentation of the training images. Unset: none."
    )
    refit: bool = Field(
        default=False,
        description="Whether the best promoted trial is trained once more with each seed, on all training "
        "images with mini, for the epochs that validation chose. `hpo export` then takes the refit. May "
        "change in a stored study.",
    )

    @model_validator(mode="after")
    def _warmup_applies(self) -> "FullSection":
        if self.warmup and self.schedule == "one-cycle":
            rule = "applies only where full.schedule is constant, step or cosine"
            raise section_error({"warmup": rule})
        return self

    def phases(self, optimizer: str, searched: Collection[str]) -> tuple[Phase, ...]:
        """Return the phases of a trial with this optimizer; the space names the parameters `searched`."""
        params = self.params(searched)
        first = Phase(
            optimizer,
            self.pretrain.epochs,
            self.pretrain.patience or None,
            self.clip or None,
            self.augmentation,
            params=params,
            ema=self.ema or None,
        )
        if not self.finetune:
            return (first,)
        # Adam takes neither a setting of the trial's optimizer nor a schedule.
        kept = [*of_role(params, Role.LOSS), *of_role(params, Role.DROPOUT)]
        second = replace(
            first,
            optimizer="adam",
            epochs=self.finetune.epochs,
            patience=self.finetune.patience or None,
            settings={"lr": self.finetune.lr},
            params={name: params[name] for name in kept},
        )
        return (first, second)

    def params(self, searched: Collection[str] = ()) -> dict[str, Any]:
        """Return the hyperparameters that the section sets for all trials, except those `searched`."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in PARAMS if name not in searched}
        if values.get("dropout") is False:
            del values["dropout"]
        return {name: value for name, value in values.items() if value != fields[name].default}

    @property
    def augmentation(self) -> Augmentation | None:
        """The augmentation of the training images, None if there is none."""
        return Augmentation(**self.augment.model_dump()) if self.augment else None

    def keeping(self, stored: object) -> "FullSection":
        """Return the section with the values of a stored study's where the file has those of the recipe.

        Another version of hpo may have stored other values of the recipe.
        """
        if self.recipe is None or not isinstance(stored, FullSection) or stored.recipe != self.recipe:
            return self
        return keeping(self, stored).model_copy(update={"refit": self.refit})  # which no recipe presets
