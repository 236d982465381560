"""The columns of a pack: settings that have a value for each member."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo.training.weights import Tensors
from hpo.values.parameters import default_of

CLASS_WEIGHTS, CLIP, DROPOUT = "class_weights", "clip", "dropout"


def columns_of(
    names: Iterable[str], members: Sequence[Mapping[str, Any]], like: Tensor, dtype: torch.dtype | None = None
) -> Tensors:
    """Return numbers of M members by name, each `(M, 1)`, on the device of `like`.

    A number that a member lacks has the default of the hyperparameter. `dtype`: None for that of `like`.
    """
    return {
        name: like.new_tensor([[_setting(member, name)] for member in members], dtype=dtype or like.dtype)
        for name in names
    }


def step_settings(
    names: Iterable[str],
    members: Sequence[Mapping[str, Any]],
    like: Tensor,
    max_norm: float | None,
    balanced: Callable[[], Tensor],
) -> Tensors:
    """Return the columns of the loss and of clipping among `names` for M members.

    Each is `(M, 1)`, but class weights are `(M, classes)`. `max_norm`: the largest gradient norm of members
    that have none of their own, None for no clipping. `balanced`: returns the class weights of that name.
    """
    columns = {}
    for name in names:
        if name == CLASS_WEIGHTS:
            weights = balanced().to(like)
            rows = [
                weights if _setting(member, name) == "balanced" else weights.new_ones(weights.shape)
                for member in members
            ]
            columns[name] = torch.stack(rows)
        elif name == CLIP:
            norms = [[member.get(name, math.inf if max_norm is None else max_norm)] for member in members]
            columns[name] = like.new_tensor(norms)
        else:
            columns |= columns_of([name], members, like)
    return columns


def values_of(row: Tensor) -> Tensor:
    """Return the values `(...)` of a column of numbers `(..., 1)`; other columns as they are."""
    return row.squeeze(-1)


def _setting(member: Mapping[str, Any], name: str) -> Any:
    return member[name] if name in member else default_of(name)
