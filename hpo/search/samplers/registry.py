"""The samplers by their name in the study file. CONTRIBUTING.md says how to add one."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from hpo.search.samplers.base import Sampler
from hpo.values.section import union_of

_CLASSES = {
    "random": "hpo.search.samplers.random:RandomSampler",
    "tpe": "hpo.search.samplers.tpe:TpeSampler",
    "gp": "hpo.search.samplers.gp:GpSampler",
    "CmaEsSampler": "hpo.search.samplers.cma_es:CmaEsSampler",
    "QMCSampler": "hpo.search.samplers.qmc:QmcSampler",
    "GPSampler": "hpo.search.samplers.optuna_gp:OptunaGpSampler",
    "NSGAIISampler": "hpo.search.samplers.nsgaii:NsgaIiSampler",
    "BruteForceSampler": "hpo.search.samplers.brute_force:BruteForceSampler",
}
"""The names of Optuna's samplers are those of its classes.

The modules import Optuna, SciPy, scikit-learn and cmaes in their functions only: a study file is read without
them.
"""

SAMPLERS: Mapping[str, type[Sampler]] = {name: resolve_name(place) for name, place in _CLASSES.items()}

DEFAULT = "gp"

if TYPE_CHECKING:
    AnySampler = Sampler
else:
    AnySampler = union_of(SAMPLERS, DEFAULT)
