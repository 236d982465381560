"""A hyperparameter optimization service: studies of packed trials, promotion, export.

The public names are exported lazily: importing this package imports no torch, and using a name does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
