"""A small study file."""

import tomllib

from hpo.spec.study_spec import StudySpec

TEXT = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
[space]
lr = [1e-3, 1e-2]
batch_size = [16, 32]
momentum = { low = 0, high = 0.9 }
weight_decay = 0
[sampler]
name = "tpe"
[pruner]
name = "asha"
[search]
trials = 12
epochs = 3
[full]
pretrain = { epochs = 2 }
finetune = { epochs = 1 }
augment = { rotation = 10 }
[promotion]
top = 2
"""


def load(text: str = TEXT) -> StudySpec:
    return StudySpec.parse({"name": "small", **tomllib.loads(text)}, source="test")
