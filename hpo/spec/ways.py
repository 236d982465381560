"""The two ways of a study: it trains a network in packs, or it calls the user's own training function."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag, ValidationInfo

from hpo.spec.full_section import FullSection
from hpo.spec.function_sections import FunctionFullSection
from hpo.spec.model_section import ModelSection
from hpo.spec.sections import DataSection
from hpo.values.free import FREE
from hpo.values.objective import LOSS, OBJECTIVES
from hpo.values.parameters import BUILT_IN
from hpo.values.section import rule_error, section_error
from hpo.values.space import SearchSpace
from hpo.values.space_section import CONSTRAINTS, SpaceError, parse_space


class WayError(ValueError):
    """Keys of both ways in one study; `mistakes` maps each key that does not belong to its rule."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {rule}" for name, rule in mistakes.items()))
        self.mistakes = mistakes


def _full_way(raw: object) -> str:
    # `with_way` sees to it that the key is there in studies of a function, and in no others.
    is_function = isinstance(raw, FunctionFullSection) or (isinstance(raw, Mapping) and "epochs" in raw)
    return "function" if is_function else "network"


def _space(raw: object, info: ValidationInfo) -> SearchSpace:
    if isinstance(raw, SearchSpace):
        return raw
    if not isinstance(raw, Mapping):
        raise rule_error("must be a table")
    if not raw.keys() - {CONSTRAINTS}:
        raise rule_error("must have at least one parameter")
    # A study whose section [train] has a mistake, and is not among the data, has free parameters as well.
    is_free = info.data.get("train", True) is not None
    try:
        return parse_space(raw, FREE if is_free else BUILT_IN)
    except SpaceError as error:
        raise section_error(error.mistakes) from error


AnySpace = Annotated[SearchSpace, BeforeValidator(_space)]

if TYPE_CHECKING:
    # Only code that trains networks reads these sections, and a study that trains a network has them.
    AnyModel = ModelSection
    AnyData = DataSection
    AnyFull = FullSection
else:
    AnyModel = ModelSection | None
    AnyData = DataSection | None
    AnyFull = Annotated[
        Annotated[FullSection, Tag("network")] | Annotated[FunctionFullSection, Tag("function")],
        Discriminator(_full_way),
    ]


def with_way(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a study file with the defaults of their way. Raises `WayError`."""
    # A section without a value is one that the file leaves out.
    given = {key: raw[key] for key in raw if raw[key] is not None}
    return _of_function(given) if "train" in given else _of_network(given)


def _of_network(raw: dict[str, Any]) -> dict[str, Any]:
    mistakes = {"resources": "is a section of a study with [train]"} if "resources" in raw else {}
    full, objective = raw.get("full"), raw.get("objective")
    if isinstance(full, Mapping) and "epochs" in full:
        mistakes["full.epochs"] = (
            "is a key of a study with [train]; with [model], the keys are full.pretrain.epochs and "
            "full.finetune.epochs"
        )
    if mistakes:
        raise WayError(mistakes)
    if isinstance(objective, Mapping) and _is_natural(objective):
        # So that both spellings are one study.
        raw["objective"] = {key: value for key, value in objective.items() if key != "direction"}
    return raw


def _is_natural(objective: Mapping[str, Any]) -> bool:
    """Return whether the section names the direction that its metric has anyway."""
    metric = objective.get("metric", LOSS.name)
    known = OBJECTIVES.get(metric) if isinstance(metric, str) else None
    return known is not None and objective.get("direction") == known.direction


def _of_function(raw: dict[str, Any]) -> dict[str, Any]:
    if both := [f"[{key}]" for key in ("model", "data") if key in raw]:
        raise WayError({"train": f"a study has [train] or [model] and [data]; this one has {both[0]}, too"})
    mistakes = {key: "is a section of a study with [model]" for key in raw if key in ("engine", "export")}
    full, objective, search = (raw.get(key, {}) for key in ("full", "objective", "search"))
    if isinstance(full, Mapping):
        mistakes |= {
            f"full.{key}": "is a key of a study with [model]; with [train], the only key is full.epochs"
            for key in full
            if key in FullSection.model_fields
        }
        raw["full"] = {"epochs": None, **full}
    if isinstance(objective, Mapping) and "metric" not in objective:
        if objective.get("direction") == "maximize":
            mistakes["objective.metric"] = "is missing; a loss is minimized"
        raw["objective"] = {"metric": LOSS.name, "direction": LOSS.direction, **objective}
    if isinstance(search, Mapping) and "search" in raw:
        raw["search"] = {"epochs": 1, **search}
    if mistakes:
        raise WayError(mistakes)
    return {**raw, "model": None, "data": None}
