"""The study file: parsed once, at the edge, into frozen objects that the rest of the service trusts."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from hpo.data import DataError
from hpo.data import check as check_dataset
from hpo.errors import SpecError
from hpo.models import ModelError
from hpo.models import check as check_model
from hpo.models import names as model_names
from hpo.search.pruners.registry import PRUNERS
from hpo.search.pruners.section import PrunerSection
from hpo.search.samplers.section import SamplerSection
from hpo.search.stopping import StopSection
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.parameters import SpaceError, parse_space, space_to_json, spelling_hint
from hpo.values.precision import Precision, search_precisions
from hpo.values.section import Section, rule_error, section_error
from hpo.values.space import SearchSpace
from hpo.values.stage import Stage

NAME_RULE = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
FULL_SUFFIX = "-full"


TUNED_STEPS = 4000
"""Steps for each batch size that pay for a compilation: it takes some ten seconds, and saves one to three
milliseconds of each step."""


def _name(value: str) -> str:
    if value.endswith(FULL_SUFFIX):
        raise rule_error(f"must not end in {FULL_SUFFIX!r}: that is the name of a study's full training")
    return value


def _model(name: str) -> str:
    try:
        check_model(name)
    except ModelError as error:
        raise rule_error(str(error)) from error
    return name


def _dataset(name: str) -> str:
    try:
        check_dataset(name)
    except DataError as error:
        raise rule_error(str(error)) from error
    return name


class ModelSection(Section):
    """The network."""

    name: Annotated[str, AfterValidator(_model)] = Field(
        description="A network listed by `hpo models`, or your own class as `package.module:Class`. "
        "The class is called with the number of classes and of input channels."
    )


class DataSection(Section):
    """The data set, and how its training images are split and normalised."""

    name: Annotated[str, AfterValidator(_dataset)] = Field(
        description="A data set listed by `hpo data list`, or your own function as `package.module:function`."
    )
    mini: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Share of the training images that the search uses, called mini. "
        "Full training trains on the others and validates on mini.",
    )
    validation: float = Field(
        default=0.2, gt=0, le=0.5, description="Share of the mini images that the search validates on."
    )
    mean: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Mean of pixels / 255, for normalisation. Unset: that of the training images. "
        "`mean` and `std` are set together.",
    )
    std: float | None = Field(
        default=None,
        gt=0,
        description="Standard deviation of pixels / 255. Unset: that of the training images.",
    )

    @model_validator(mode="after")
    def _together(self) -> "DataSection":
        if (self.mean is None) != (self.std is None):
            raise section_error({"mean" if self.mean is None else "std": "must be given where the other is"})
        return self


class SearchSection(Section):
    """The budget of the search."""

    trials: int = Field(ge=1, le=1_000_000, description="Number of trials. May grow in a stored study.")
    epochs: int = Field(ge=1, description="Epochs of a trial that is neither pruned nor paused.")


class EngineSection(Section):
    """How training steps are computed. Changes results by rounding only, and may change in a stored study."""

    compile: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Compile training steps on a CPU, and capture them as CUDA graphs on a GPU. `auto` does "
        "so for the networks of `hpo models`; on a CPU only where the stage is long enough to pay for the "
        "compilation and compiled steps are the fastest. Both replay one recorded execution: use `always` "
        "with your own network only if its `forward` depends on nothing but its tensors and its input.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of matrix products and convolutions in training. `auto` is float32, except in "
        "searches with `resnet` and `spinalnet`, where it is the faster of both on this CPU: there bfloat16 "
        "ranks cells about as well as a second seed does (`python -m benchmarks.precision`).",
    )


class PhaseSection(Section):
    """A phase of full training."""

    epochs: int = Field(ge=1, description="Largest number of epochs.")
    patience: int = Field(
        default=5, ge=1, description="Early stopping: the phase ends after as many epochs without a new best."
    )


class AdamSection(PhaseSection):
    """The phase of full training with Adam."""

    lr: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")


def _scale(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise rule_error("must be [smallest, largest] with 0 < smallest <= largest")
    return value


class AugmentSection(Section):
    """Random affine maps of the training images in full training."""

    rotation: float = Field(default=0.0, ge=0, le=180, description="Largest angle of rotation in degrees.")
    shift: float = Field(
        default=0.0, ge=0, lt=1, description="Largest translation, as a share of the side of an image."
    )
    scale: Annotated[tuple[float, float], AfterValidator(_scale)] = Field(
        default=(1.0, 1.0), description="Smallest and largest factor of scaling, above 0."
    )
    shear: float = Field(default=0.0, ge=0, lt=90, description="Largest angle of shearing in degrees.")


class FullSection(Section):
    """Full training in the paper's two phases: SGD with the promoted parameters, then Adam."""

    pretrain: PhaseSection = Field(description="The phase with SGD.")
    finetune: AdamSection = Field(description="The phase with Adam.")
    clip: float = Field(default=1.0, gt=0, description="Largest gradient norm; longer gradients are clipped.")
    augment: AugmentSection | None = Field(
        default=None, description="Augmentation of the training images. Unset: none."
    )


class PromotionSection(Section):
    """The search trials that are trained in full. Both numbers may grow in a stored study."""

    top: int = Field(default=1, ge=1, description="Number of the best search trials to train in full.")
    seeds: int = Field(
        default=1, ge=1, description="Full trainings of each promoted trial, each with its seed."
    )


def _space(raw: object) -> SearchSpace:
    if isinstance(raw, SearchSpace):
        return raw
    if not isinstance(raw, Mapping):
        raise rule_error("must be a table")
    try:
        return parse_space(raw)
    except SpaceError as error:
        raise section_error(error.mistakes) from error


class StudySpec(Section):
    """A study file. Its fingerprint covers what makes trials comparable; the rest may grow later."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Annotated[str, Field(pattern=NAME_RULE), AfterValidator(_name)] = Field(
        description="Name of the study. Unset: the name of the file."
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the splits, the random plan, the data order and the initial weights.",
    )
    model: ModelSection
    data: DataSection
    space: Annotated[SearchSpace, BeforeValidator(_space)]
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    search: SearchSection
    stop: StopSection = StopSection()
    full: FullSection
    promotion: PromotionSection = PromotionSection()
    engine: EngineSection = EngineSection()

    @model_validator(mode="after")
    def _consistent(self) -> "StudySpec":
        mistakes = {}
        if self.promotion.top > self.search.trials:
            mistakes["promotion.top"] = (
                f"{self.promotion.top} is more than search.trials ({self.search.trials})"
            )
        key = PRUNERS[self.pruner.name].first_epoch_key
        if key is not None and (value := getattr(self.pruner, key)) >= self.search.epochs:
            rule = f"{value} is not below search.epochs ({self.search.epochs}), so nothing would be pruned"
            mistakes[f"pruner.{key}"] = rule
        if mistakes:
            raise section_error(mistakes)
        return self

    @classmethod
    def load(cls, path: Path) -> "StudySpec":
        """Parse a study file; its study is called after the file unless it has a `name`.

        Raises `SpecError` with one line for each mistake: file, key, value and rule.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"{path}: cannot read the study file: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"{path}: not valid TOML: {error}") from error
        raw.setdefault("name", path.stem)
        return cls.parse(raw, source=str(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], source: str) -> "StudySpec":
        """`raw` as TOML or JSON gives it. Raises `SpecError`, each line beginning with `source`."""
        try:
            # By way of JSON, whose strict mode knows that an array may become a tuple.
            return cls.model_validate_json(json.dumps(raw, default=str))
        except ValidationError as error:
            lines = [line for detail in _mistakes(error.errors()) for line in _lines(detail)]
            raise SpecError("\n".join(f"{source}: {line}" for line in lines)) from error

    @property
    def full_name(self) -> str:
        return self.name + FULL_SUFFIX

    def budget(self, stage: Stage) -> Budget:
        """What a trial of the search, or of the full training, may spend."""
        if stage == "search":
            return Budget("mini", (Phase("sgd", self.search.epochs),), keep="last")
        full = self.full
        augmentation = None if full.augment is None else Augmentation(**full.augment.model_dump())
        pretrain = Phase("sgd", full.pretrain.epochs, full.pretrain.patience, full.clip, augmentation)
        finetune = Phase(
            "adam", full.finetune.epochs, full.finetune.patience, full.clip, augmentation, full.finetune.lr
        )
        return Budget("full", (pretrain, finetune), keep="best")

    def tunes(self, stage: Stage, images: int) -> bool:
        """Whether a stage that trains on so many images is to find out how it is computed fastest.

        That takes some time at first. The spec decides, and not what has been found out before, so that all
        workers do the same.
        """
        if self.engine.compile == "always" or self.model.name not in model_names():
            return self.engine.compile == "always"
        trials, epochs = self.search.trials, self.search.epochs
        if stage == "full":
            trials, epochs = self.promotion.top * self.promotion.seeds, self.full.pretrain.epochs
        sizes = self.space.domains["batch_size"]
        count = sizes.size or 1
        batches = sum(images / sizes.at(place) for place in range(count)) / count  # of an epoch, on average
        return trials * epochs * batches / count >= TUNED_STEPS

    @property
    def captures(self) -> bool:
        """Whether a GPU is to launch steps as graphs, which costs next to nothing and always pays."""
        ours = self.engine.compile == "auto" and self.model.name in model_names()
        return ours or self.engine.compile == "always"

    def precisions(self, stage: Stage) -> tuple[Precision, ...]:
        """Those that a stage may be trained in."""
        if self.engine.precision != "auto":
            return (self.engine.precision,)
        return search_precisions(self.model.name) if stage == "search" else ("float32",)

    def to_json(self) -> dict[str, Any]:
        """The spec as plain values, without what is unset; `parse` reads it back."""
        plain = self.model_dump(mode="json", exclude={"space"}, exclude_none=True)
        return {**plain, "space": space_to_json(self.space)}

    def identity(self) -> dict[str, Any]:
        """The part of the spec that must not change under one name, by dotted key."""
        flat = _flatten(self.to_json())
        return {
            key: value
            for key, value in flat.items()
            if key not in EXTENDABLE and not key.startswith(("stop.", "engine."))
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex, first 16 digits) of `identity`."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


EXTENDABLE = frozenset({"search.trials", "promotion.top", "promotion.seeds"})
"""What may grow in a study that exists: it adds trials and leaves those that there are comparable."""


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and not prefix.startswith("space."):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


_RULES = {
    "missing": "is missing",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must be at most 63 of a-z, 0-9, '-', '_', '.' and begin with a-z or 0-9",
    "literal_error": "must be one of {expected}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text in quotes",
    "model_type": "must be a table",
    "tuple_type": "must be a list",
    "too_long": "must be a list of two numbers",
}


def _mistakes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """The details without keys that are missing only because they are misspelt."""
    unknown = {detail["loc"] for detail in details if detail["type"] == "extra_forbidden"}
    return [
        detail
        for detail in details
        if detail["type"] != "missing"
        or not any(
            location[:-1] == detail["loc"][:-1]
            and get_close_matches(str(location[-1]), [str(detail["loc"][-1])], n=1)
            for location in unknown
        )
    ]


def _lines(detail: ErrorDetails) -> list[str]:
    """`key = value: rule` of one of pydantic's errors; of those inside a section, one for each key."""
    location = [str(part) for part in detail["loc"]]
    where, kind = ".".join(location), detail["type"]
    if kind == "extra_forbidden":
        return [f"{where}: unknown key{spelling_hint(location[-1], _keys(location[:-1]))}"]
    context = detail.get("ctx", {})
    if kind == "inside":
        return [f"{'.'.join([*location, key])}: {rule}" for key, rule in context["mistakes"].items()]
    rule = _RULES.get(kind, "{message}").format(message=detail["msg"], **context)
    if kind == "missing":
        return [f"{where}: {rule}"]
    return [f"{where} = {json.dumps(detail['input'])}: {rule}"]


def _keys(location: list[str]) -> Mapping[str, object]:
    section: type[BaseModel] = StudySpec
    for part in location:
        annotation = section.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return section.model_fields
