"""A user's training function: what it gets, its states, and the process that it runs in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
