"""The samplers by their name in the study file. To add a sampler, add its file and one line here.

Classes are given by name: checking a study file must not import Optuna.
`hpo.search.samplers.base.make_sampler` imports them.
"""

from collections.abc import Mapping

SAMPLERS: Mapping[str, str] = {
    "random": "hpo.search.samplers.random:RandomSampler",
    "tpe": "hpo.search.samplers.tpe:TpeSampler",
    "gp": "hpo.search.samplers.gp:GpSampler",
}
