"""Architectures by name. Importing this module imports no torch, so that commands can check names at once."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

MODELS: Mapping[str, str] = {
    "lenet": "hpo.models.lenet:LeNet",
    "alexnet": "hpo.models.alexnet:AlexNet",
    "vggnet": "hpo.models.vggnet:VGGNet",
    "resnet": "hpo.models.resnet:ResNet",
    "spinalnet": "hpo.models.spinalnet:SpinalNet",
    "ensnet": "hpo.models.ensnet:EnsNet",
    "ensnet-vote": "hpo.models.ensnet:EnsNetVote",
}


class ModelError(ValueError):
    """A model that is unknown, cannot be imported or cannot be built. The message is one line."""


def names() -> tuple[str, ...]:
    """The registered names."""
    return tuple(MODELS)


def check(name: str) -> None:
    """Raise ModelError unless `name` is registered or has the form `package.module:Class`.

    Imports nothing, so whether a class of the user's own exists is only known to `resolve`.
    """
    if name in MODELS:
        return
    module, colon, attribute = name.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), attribute)):
        return
    near = get_close_matches(name, MODELS)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelError(
        f"unknown model {name!r}: {hint}it must be one of {', '.join(MODELS)}, "
        "or a class of your own as package.module:Class"
    )


def resolve(name: str) -> "type[nn.Module]":
    """The class behind a registered name or `package.module:Class`.

    A module of the user's own is also looked for in the current directory. Raises ModelError when the name
    is unknown, when its module cannot be imported, and when it is not a subclass of torch.nn.Module.
    """
    check(name)
    module, _, attribute = MODELS.get(name, name).partition(":")
    if name not in MODELS:
        _search_current_directory()
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # importing runs the user's code, which may raise anything
        reason = " ".join(str(error).split())
        raise ModelError(f"model {name!r} cannot be imported: {type(error).__name__}: {reason}") from error

    from torch import nn

    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"model {name!r} must be a subclass of torch.nn.Module, not {found!r}")
    return found


def build(name: str, classes: int, in_channels: int = 1) -> "nn.Module":
    """A newly initialised network, drawn from torch's global generator, on torch's default device.

    Raises ModelError as `resolve` does, and when the class does not take (classes, in_channels).
    """
    network = resolve(name)
    try:
        # By keyword, so that a class with the two in another order is not built the wrong way round.
        return network(classes=classes, in_channels=in_channels)
    except TypeError as error:
        raise ModelError(
            f"model {name!r} must be buildable as {network.__name__}(classes={classes}, "
            f"in_channels={in_channels}): {error}"
        ) from error


def _search_current_directory() -> None:
    # Last in line, so that a file of the user's never hides an installed package.
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.append(directory)
