"""Data sets, their splits, and their batches and augmentation on the device.

Importing this package imports no torch. `hpo.data.device` and `hpo.data.augment` import torch,
`hpo.data.splits` imports scikit-learn.
"""

from hpo.data.dataset import DataError, DataInputError, Dataset, Labelled, UnknownDataset
from hpo.data.registry import check, fetch, names, open_dataset

__all__ = [
    "DataError",
    "DataInputError",
    "Dataset",
    "Labelled",
    "UnknownDataset",
    "check",
    "fetch",
    "names",
    "open_dataset",
]
