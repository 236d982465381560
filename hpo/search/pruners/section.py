"""The section `[pruner]` of a study file."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpo.search.pruners.registry import PRUNERS
from hpo.values.section import Section

if TYPE_CHECKING:
    PrunerName = str
else:
    PrunerName = Literal[tuple(PRUNERS)]


class PrunerSection(Section):
    """The rule that ends or pauses search trials early."""

    name: PrunerName = Field(
        default="pause",
        description="`none`: every trial trains to its last epoch. `median`: prune a trial whose best loss "
        "is above the median of completed trials at the same epoch. `asha`: at each rung only the best "
        "1/`reduction` go on. `hyperband`: `asha` in several brackets. `pause`: checkpoint a trial at its "
        "first rung and whenever its epochs have doubled, and set it aside. It resumes once its predicted "
        "final loss is in the best 1/`reduction` of all trials that reached that rung.",
    )
    startup_trials: int = Field(
        default=5, ge=1, description="`median`: completed trials before it prunes any trial."
    )
    warmup_epochs: int = Field(
        default=0, ge=0, description="`median`: first epochs of a trial in which it is never pruned."
    )
    min_epochs: int = Field(
        default=1, ge=1, description="`asha`, `hyperband`, `pause`: epoch of the first rung."
    )
    reduction: int = Field(
        default=3, ge=2, description="`asha`, `hyperband`, `pause`: one in `reduction` trials passes a rung."
    )
