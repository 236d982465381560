"""Data sets, their splits, and their batches and augmentation on the device.

What is named here needs no torch. `data.device` and `data.augment` do, and `data.splits` scikit-learn.
"""

from hpo.data.dataset import DataError, Dataset, Labelled, UnknownDataset
from hpo.data.registry import check, fetch, names, open_dataset

__all__ = ["DataError", "Dataset", "Labelled", "UnknownDataset", "check", "fetch", "names", "open_dataset"]
