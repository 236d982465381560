"""Bundles of networks that nobody has trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hpo import models
from hpo.export.bundle import Bundle, BundleContents, open_bundle, write_bundle
from hpo.export.model_spec import ModelSpec
from hpo.export.scoring import metrics
from hpo.values.space import Value


def random_bundle(directory: Path, spec: ModelSpec, params: Mapping[str, Value] | None = None) -> Bundle:
    """Write a bundle of a network with random weights, and return it."""
    shape, count = spec.shape, len(spec.classes)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        network = models.build_with(spec.name, {**shape.keywords, **spec.keywords}, shape.input)
    perfect = metrics(np.arange(count), np.eye(count, dtype=np.float32), spec.classes)
    contents = BundleContents(spec, network.state_dict(), params or {"lr": 0.1}, perfect, {"study": "first"})
    write_bundle(directory, contents)
    return open_bundle(directory)
