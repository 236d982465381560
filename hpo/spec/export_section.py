"""The section `[export]` of a study file."""

from typing import Literal

from pydantic import Field

from hpo.values.section import Section


class ExportSection(Section):
    """The model that is exported. The keys may change in a stored study."""

    model: Literal["best", "ensemble"] = Field(
        default="best",
        description="`best`: the full training with the best objective. `ensemble`: all seeds of this "
        "training as one model, which averages their predictions; it needs two seeds or more.",
    )
    shifts: int = Field(
        default=0,
        ge=0,
        le=4,
        description="Predictions are averaged over the translations of an image by up to this many pixels in "
        "each direction: 9 for 1, 25 for 2. Takes as many times as long. 0: none.",
    )
