"""The section `[sampler]` of a study file."""

from typing import Literal

from pydantic import Field

from hpo.values.section import Section


class SamplerSection(Section):
    """`startup`: the random trials at the start of TPE and GP.

    With the defaults here and of the pruner, searches found good cells the soonest (docs/search.md).
    """

    name: Literal["random", "tpe", "gp"] = "gp"
    startup: int = Field(default=10, ge=1)
