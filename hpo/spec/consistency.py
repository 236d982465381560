"""Rules between several keys of a study file."""

from typing import TYPE_CHECKING

from hpo.spec.metrics import metric_mistakes
from hpo.values.baseline import parse_baseline
from hpo.values.space import Point
from hpo.values.space_section import SpaceError

if TYPE_CHECKING:
    from hpo.spec.study_spec import StudySpec


def key_mistakes(spec: "StudySpec", is_stored: bool) -> dict[str, str]:
    """Return the rule that each key breaks together with others.

    `is_stored`: a stored study may keep rules under which nothing completes.
    """
    mistakes = metric_mistakes(spec)
    if spec.promotion.top > spec.search.trials:
        mistakes["promotion.top"] = f"{spec.promotion.top} is more than search.trials ({spec.search.trials})"
    if not is_stored and spec.export.model == "ensemble" and spec.promotion.seeds < 2:
        mistakes["export.model"] = (
            f'"ensemble" needs promotion.seeds of at least 2, not {spec.promotion.seeds}'
        )
    if not is_stored and spec.stop.epochs is not None and spec.stop.epochs < spec.search.epochs:
        fewest = f"search.epochs ({spec.search.epochs})"
        mistakes["stop.epochs"] = f"{spec.stop.epochs} is below {fewest}, so no trial could complete"
    target = spec.stop.target
    if target is not None and not is_stored and not mistakes and not spec.make_objective().may_be(target):
        mistakes["stop.target"] = f"{target:g} is no {spec.objective.metric}, which is from 0 to 1"
    for key, rule in spec.pruner.mistakes(spec.search.epochs).items():
        mistakes[f"pruner.{key}"] = rule
    for key, rule in spec.sampler.mistakes(spec.space).items():
        mistakes[f"sampler.{key}"] = rule
    return mistakes


def parsed_baseline(spec: "StudySpec", mistakes: dict[str, str]) -> Point | None:
    """Return the baseline as a point of the space; add to `mistakes`."""
    try:
        return None if spec.baseline is None else parse_baseline(spec.baseline, spec.space)
    except SpaceError as error:
        mistakes |= {f"baseline.{name}": rule for name, rule in error.mistakes.items()}
        return None
