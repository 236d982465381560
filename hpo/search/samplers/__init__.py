"""Samplers: which points a search tries. Pure functions of the history."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
