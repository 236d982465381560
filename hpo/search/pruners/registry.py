"""The pruners by their name in the study file. CONTRIBUTING.md says how to add one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.base import Pruner
from hpo.search.pruners.hyperband import HyperbandPruner
from hpo.search.pruners.median import MedianPruner
from hpo.search.pruners.none import NoPruner
from hpo.search.pruners.pause import PausePruner

if TYPE_CHECKING:
    from hpo.search.pruners.section import PrunerSection

PRUNERS: Mapping[str, type[Pruner]] = {
    "none": NoPruner,
    "median": MedianPruner,
    "asha": AshaPruner,
    "hyperband": HyperbandPruner,
    "pause": PausePruner,
}


def make_pruner(section: "PrunerSection", epochs: int) -> Pruner:
    """Return the pruner that the section names, for trials of `epochs` epochs."""
    return PRUNERS[section.name].from_section(section, epochs)
