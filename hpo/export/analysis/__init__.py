"""Where the errors of a classifier are: pairs, look-alikes, ceilings, calibration, and pictures of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
