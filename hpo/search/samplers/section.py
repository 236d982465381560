"""The section `[sampler]` of a study file."""

from typing import Literal

from pydantic import Field

from hpo.values.section import Section


class SamplerSection(Section):
    """The source of new points. With the default sampler and pruner, searches find good cells the soonest
    (docs/search.md)."""

    name: Literal["random", "tpe", "gp"] = Field(
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
