"""Pruners: which trials of a search end early or pause. Pure functions of learning curves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
