"""Small study files: of a network, and of a training function."""

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

FUNCTION_TEXT = """
seed = 1
[train]
function = "train:fit"
[objective]
metric = "accuracy"
direction = "maximize"
[space]
depth = [2, 3, 4]
optimizer = ["adamw", "lion"]
lr = { low = 1e-5, high = 1e-1, log = true }
[sampler]
name = "random"
[pruner]
name = "none"
[search]
trials = 12
epochs = 3
[full]
epochs = 5
[promotion]
top = 2
"""


def load(text: str = TEXT) -> StudySpec:
    return StudySpec.parse({"name": "small", **tomllib.loads(text)}, source="test")
