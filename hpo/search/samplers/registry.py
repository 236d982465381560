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
}
"""Modules that import Optuna or scikit-learn in their functions only: a study file is read without both."""

SAMPLERS: Mapping[str, type[Sampler]] = {name: resolve_name(place) for name, place in _CLASSES.items()}

DEFAULT = "gp"

if TYPE_CHECKING:
    AnySampler = Sampler
else:
    AnySampler = union_of(SAMPLERS, DEFAULT)
