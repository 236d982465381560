"""The pruners by their name in the study file. CONTRIBUTING.md says how to add one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpo.search.pruners.asha import AshaSection
from hpo.search.pruners.base import PrunerSection
from hpo.search.pruners.hyperband import HyperbandSection
from hpo.search.pruners.median import MedianSection
from hpo.search.pruners.none import NoPrunerSection
from hpo.search.pruners.pause import PauseSection
from hpo.values.section import union_of

PRUNERS: Mapping[str, type[PrunerSection]] = {
    "none": NoPrunerSection,
    "median": MedianSection,
    "asha": AshaSection,
    "hyperband": HyperbandSection,
    "pause": PauseSection,
}

DEFAULT = "pause"

if TYPE_CHECKING:
    AnyPruner = PrunerSection
else:
    AnyPruner = union_of(PRUNERS, DEFAULT)
