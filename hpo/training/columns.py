"""The settings of the members of a pack, as one column per setting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo.training.weights import Tensors
from hpo.values.parameters import default_of


def columns_of(
    names: Iterable[str], members: Sequence[Mapping[str, Any]], like: Tensor, dtype: torch.dtype | None = None
) -> Tensors:
    """Return the settings of M members by name, each `(M, 1)`, on the device of `like`.

    A setting that a member lacks has the default of the hyperparameter. `dtype`: None for that of `like`.
    """
    return {
        name: like.new_tensor([[_setting(member, name)] for member in members], dtype=dtype or like.dtype)
        for name in names
    }


def _setting(member: Mapping[str, Any], name: str) -> Any:
    return member[name] if name in member else default_of(name)
