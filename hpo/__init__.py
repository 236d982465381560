"""A hyperparameter optimization service: studies of packed trials, promotion, export.

What other programs need of it is here: `load_bundle` opens what a study exported. Importing this package
imports no torch; asking for one of its names does.
"""

from typing import TYPE_CHECKING

__all__ = ["Bundle", "load_bundle"]

if TYPE_CHECKING:
    from hpo.export.bundle import Bundle, load_bundle
else:  # a type checker that saw this would believe in every name

    def __getattr__(name: str) -> object:
        if name in __all__:
            from hpo.export import bundle

            return getattr(bundle, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
