"""The section `[sampler]` of a study file."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpo.search.samplers.registry import SAMPLERS
from hpo.values.section import Section

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]


class SamplerSection(Section):
    """The source of new points.

    In the benchmarks the default sampler and pruner find good cells soonest (docs/search.md).
    """

    name: SamplerName = Field(
        default="gp",
        description="`random`: a random plan without repeats. `tpe`: Optuna's TPE. `gp`: a Gaussian process "
        "that learns from every learning curve, also of pruned and paused trials.",
    )
    startup: int = Field(
        default=10,
        ge=1,
        description="Random trials before `tpe` or `gp` suggests points. Those of `gp` have a typical "
        "effective learning rate, lr / ((1 - momentum) batch_size).",
    )
