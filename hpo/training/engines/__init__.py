"""How a step is computed: eagerly, as a CUDA graph, as a compiled program, or the fastest of these."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
