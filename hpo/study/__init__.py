"""Transactions on a study: create, claim, pause, promote, fork, stop, status."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
