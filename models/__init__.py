"""Network architectures, one file each, and their registry.

An architecture is a class `Net(classes: int, in_channels: int = 1)` that maps images
`(B, in_channels, 28, 28) float` to logits `(B, classes)`. The layer sizes of the first six are those of
XavierSpycy/EMNIST-Classifier, called "the paper" in this package.

Two rules for networks:
- A network must run under `torch.func` (`vmap` over stacked parameters), because candidates train in packs.
- While training, a network may return `(B, heads, classes)`. Its loss is then the sum of the heads' cross
  entropies. In eval mode a network always returns `(B, classes)`.

Importing this package imports no torch.
"""

from hpo.models.functions import check_function, resolve_function
from hpo.models.registry import ModelError, build, build_with, check, keywords_of, names, resolve
from hpo.models.source import code_hash

__all__ = [
    "ModelError",
    "build",
    "build_with",
    "check",
    "check_function",
    "code_hash",
    "keywords_of",
    "names",
    "resolve",
    "resolve_function",
]
