"""The network architectures, one file each, and the registry that finds them by name.

Every architecture is a class `Net(classes: int, in_channels: int = 1)` that maps images
`(B, in_channels, 28, 28) float` to logits `(B, classes)`. The layer sizes of the first six are those of
XavierSpycy/EMNIST-Classifier, called "the paper" in this package.

Two rules bind a trainer:
- Networks must run under `torch.func` (`vmap` over stacked parameters), because candidates train in packs.
- A network may return `(B, heads, classes)` while training. Each head then has its own cross entropy, and
  they are summed. In eval mode it always returns `(B, classes)`.

Importing this package imports no torch.
"""

from hpo.models.registry import ModelError, build, check, names, resolve

__all__ = ["ModelError", "build", "check", "names", "resolve"]
