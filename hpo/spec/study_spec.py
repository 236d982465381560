"""The study file, parsed once at the edge into frozen objects that the rest of the service trusts."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from hpo.errors import SpecError
from hpo.search.pruners import registry as pruners
from hpo.search.pruners.base import Pruner, PrunerSection
from hpo.search.pruners.registry import AnyPruner
from hpo.search.samplers import registry as samplers
from hpo.search.samplers.registry import AnySampler
from hpo.search.stopping import StopSection
from hpo.spec.consistency import key_mistakes, parsed_baseline
from hpo.spec.export_section import ExportSection
from hpo.spec.fingerprint import fingerprint, flatten, unchangeable, without_defaults
from hpo.spec.function_sections import FunctionFullSection, ResourcesSection, TrainSection
from hpo.spec.messages import error_lines
from hpo.spec.reading import read_toml, to_json
from hpo.spec.recipes import mark_given, with_recipe
from hpo.spec.sections import EngineSection, LimitsSection, ObjectiveSection, PromotionSection, SearchSection
from hpo.spec.versions import upgrade, with_version
from hpo.spec.ways import AnyData, AnyFull, AnyModel, AnySpace, WayError, with_way
from hpo.values.budget import Budget, Phase
from hpo.values.objective import OBJECTIVES, Direction, Objective, own_metric
from hpo.values.parameters import domain_of, pack_keys
from hpo.values.precision import Precision, search_precisions
from hpo.values.resources import Resources
from hpo.values.section import Section, rule_error, section_error
from hpo.values.space import Point, cell
from hpo.values.space_section import space_to_json
from hpo.values.stage import Stage

STORED = "stored"
"""In the context of a validation: whether the spec is that of a stored study."""

NAME_RULE = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
FULL_SUFFIX = "-full"

MAX_SIZES = 1000
"""Batch sizes of a range from which the mean number of batches is computed, at least."""

MIN_AUTOTUNED_STEPS = 4000
"""Training steps per program that pay for a compilation, which takes some ten seconds and saves one to
three milliseconds of each step."""


def _name(value: str) -> str:
    if value.endswith(FULL_SUFFIX):
        raise rule_error(f"must not end in {FULL_SUFFIX!r}: that is the name of a study's full training")
    return value


def _baseline(raw: object) -> object:
    if raw is not None and not isinstance(raw, Mapping):
        raise rule_error("must be a table")
    return raw


class StudySpec(Section):
    """A parsed study file. In a stored study, keys that affect the results of trials cannot change.

    A study trains a network (`[model]` and `[data]`) or calls your own training function (`[train]`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Annotated[str, Field(pattern=NAME_RULE), AfterValidator(_name)] = Field(
        description="Name of the study."
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the splits, the random plan, the data order and the initial weights.",
    )
    model: AnyModel
    data: AnyData
    train: TrainSection | None = None
    objective: ObjectiveSection = ObjectiveSection()
    space: AnySpace
    baseline: Annotated[dict[str, Any] | None, BeforeValidator(_baseline)] = Field(
        default=None,
        description="Table of the parameters used so far, with one value each: a point of the space. A "
        "parameter that is left out has its default; with `[train]`, none may be left out. It is trained "
        "first, to its last epoch.",
    )
    sampler: AnySampler = samplers.SAMPLERS[samplers.DEFAULT]()
    pruner: AnyPruner = pruners.PRUNERS[pruners.DEFAULT]()
    search: SearchSection
    stop: StopSection = StopSection()
    full: AnyFull
    promotion: PromotionSection = PromotionSection()
    export: ExportSection = ExportSection()
    engine: EngineSection = EngineSection()
    limits: LimitsSection = LimitsSection()
    resources: ResourcesSection | None = None

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> "StudySpec":
        mistakes = key_mistakes(self, info.context is not None and bool(info.context[STORED]))
        baseline = parsed_baseline(self, mistakes)
        if mistakes:
            raise section_error(mistakes)
        resolved = self._with_pruner(self.pruner.resolved(self.search.epochs, self.space))
        return resolved if baseline is None else resolved.model_copy(update={"baseline": baseline})

    def keeping(self, stored: "StudySpec") -> "StudySpec":
        """Return the spec of a stored study's file, with the stored values of keys that the file leaves out
        and whose defaults depend on other keys."""
        spec = self._with_pruner(self.pruner.keeping(stored.pruner))
        if spec.is_function:
            return spec
        return spec.model_copy(update={"full": spec.full.keeping(stored.full)})

    def _with_pruner(self, pruner: PrunerSection) -> "StudySpec":
        return self if pruner is self.pruner else self.model_copy(update={"pruner": pruner})

    @classmethod
    def load(cls, path: Path | str) -> "StudySpec":
        """Parse a study file; without a `name` the study gets the name of the file.

        Raises `SpecError` with one line for each mistake: file, key, value and rule.
        """
        path = Path(path)
        raw = read_toml(path)
        if "name" not in raw and not re.fullmatch(NAME_RULE, path.stem):
            rule = "must be at most 63 of a-z, 0-9, '-', '_', '.' and begin with a-z or 0-9"
            way_out = 'this is the name of the file: rename it, or begin it with name = "..."'
            raise SpecError(f"{path}: name = {json.dumps(path.stem)}: {rule}; {way_out}")
        raw.setdefault("name", path.stem)
        return cls.parse(raw, source=str(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], source: str = "study", stored: bool = False) -> "StudySpec":
        """Parse values nested as in a study file. Tuples, ranges and arrays count as lists.

        `stored`: whether a study with this spec exists, which may keep rules under which nothing completes.
        Raises `SpecError` with one line for each mistake. `source` begins each line.
        """
        try:
            # Through JSON: only pydantic's strict JSON mode accepts an array as a tuple.
            given = with_way(raw)
            text = to_json(given if stored else with_recipe(given), source)
            spec = cls.model_validate_json(text, context={STORED: stored})
        except (WayError, ValidationError) as error:
            raise SpecError("\n".join(f"{source}: {line}" for line in _lines(error))) from error
        mark_given(spec.full, given.get("full"))
        return spec

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], source: str) -> "StudySpec":
        """Parse a stored spec of any version. Raises `SpecError`; `source` begins each line of the
        message."""
        return cls.parse(upgrade(stored, source), source, stored=True)

    def to_stored(self) -> dict[str, Any]:
        """Return the spec as plain values with a version; `from_stored` reads it back."""
        return with_version(self.to_json())

    @property
    def full_name(self) -> str:
        """Return the name of the Optuna study of full training."""
        return self.name + FULL_SUFFIX

    @property
    def is_function(self) -> bool:
        """Return whether trials call the user's training function, and do not train a network in packs."""
        return self.train is not None

    @property
    def code(self) -> str:
        """Return the name of what trials train: of the network, or of the training function."""
        return self.model.name if self.train is None else self.train.function

    @property
    def known_metrics(self) -> Mapping[str, Objective]:
        """Return the metrics whose direction and values are known, by name."""
        return {} if self.is_function else OBJECTIVES

    @property
    def max_width(self) -> int | None:
        """Return the most trials in a pack: one of a training function. None: the study sets no limit."""
        return 1 if self.is_function else None

    def make_resources(self) -> Resources:
        """Return what one trial of a training function needs."""
        return Resources() if self.resources is None else self.resources.make()

    def budget(self, stage: Stage, optimizer: str = "sgd") -> Budget:
        """Return the budget of one trial of the stage; `optimizer` is the trial's own.

        The budget of a training function has one phase, and only the epochs of the phase count.
        """
        if stage == "search":
            return Budget("mini", (Phase(optimizer, self.search.epochs),), keep="last")
        full = self.full
        if isinstance(full, FunctionFullSection):
            return Budget("full", (Phase(optimizer, full.epochs or self.search.epochs),), keep="best")
        return Budget("full", full.phases(optimizer, self.space.domains), keep="best")

    def autotunes(self, stage: Stage, images: int) -> bool:
        """Return whether workers measure the fastest way to compute the stage; `images` is its training set
        size.

        The answer depends on the spec alone and not on earlier measurements, so that all workers agree.
        """
        if self.engine.compile == "always" or not self.model.is_built_in:
            return self.engine.compile == "always"
        trials, epochs = self.search.trials, self.search.epochs
        if stage == "full":
            trials, epochs = self.promotion.top * self.promotion.seeds, self.full.pretrain.epochs
        sizes = domain_of(self.space, "batch_size")
        count = sizes.size or 1
        sampled = range(0, count, max(1, count // MAX_SIZES))
        mean_batches = sum(images / float(sizes.at(index)) for index in sampled) / len(sampled)  # per epoch
        return trials * epochs * mean_batches / pack_keys(self.space) >= MIN_AUTOTUNED_STEPS

    @property
    def uses_cuda_graphs(self) -> bool:
        """Return whether a GPU runs training steps as CUDA graphs. Capturing one is cheap and always pays."""
        built_in = self.engine.compile == "auto" and self.model.is_built_in
        return built_in or self.engine.compile == "always"

    def make_objective(self) -> Objective:
        """Return the objective of the study."""
        return self._metric(self.objective.metric, self.objective.direction)

    def promotion_metric(self) -> Objective:
        """Return the metric by which the best search trials are chosen."""
        metric, direction = self.promotion.metric, self.promotion.direction
        if metric is None or metric == self.objective.metric:
            return self.make_objective()
        return self._metric(metric, direction)

    def _metric(self, name: str, direction: Direction | None) -> Objective:
        if name in self.known_metrics:
            return self.known_metrics[name]
        direction = direction or "minimize"
        return Objective(name, direction, key=name) if self.is_function else own_metric(name, direction)

    def is_baseline(self, point: Point) -> bool:
        """Return whether a point of the space is the baseline."""
        return self.baseline is not None and cell(point) == cell(self.baseline)

    def make_pruner(self) -> Pruner:
        """Return the pruner of the search."""
        return self.pruner.make(self.search.epochs)

    def precisions(self, stage: Stage) -> tuple[Precision, ...]:
        """Return the precisions that the stage may train in."""
        if self.engine.precision != "auto":
            return (self.engine.precision,)
        return search_precisions(self.model.name) if stage == "search" else ("float32",)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain values without unset keys; `parse` reads it back."""
        left_out = {"space", "engine", "export"} if self.is_function else {"space"}
        plain = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        return {**plain, "space": space_to_json(self.space)}

    def identity(self) -> dict[str, Any]:
        """Return the keys that must not change in a stored study, as a flat mapping of dotted keys."""
        return unchangeable(flatten(self.to_json()))

    @property
    def fingerprint(self) -> str:
        """Return a hash of the keys of `identity` that differ from their defaults.

        A study keeps the fingerprint of its creation (`Study.fingerprint`).
        """
        return fingerprint(unchangeable(flatten(without_defaults(self, self.to_json()))))


def _lines(error: WayError | ValidationError) -> list[str]:
    """Return a line for each mistake, without the source."""
    if isinstance(error, WayError):
        return [f"{key}: {rule}" for key, rule in error.mistakes.items()]
    return error_lines(error, StudySpec)
