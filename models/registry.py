"""Architectures by name. This module imports no torch, so that a command can check a name quickly."""

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
    """A model that is unknown, or cannot be imported or built. The message is one line."""


def names() -> tuple[str, ...]:
    """The registered names."""
    return tuple(MODELS)


def check(name: str) -> None:
    """Raise ModelError unless `name` is registered or has the form `package.module:Class`.

    Imports nothing. Only `resolve` finds out whether a user's own class exists.
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
    """Return the class of a registered name or of `package.module:Class`.

    A user's own module may be in the current directory. Raises ModelError if the name is unknown, if its
    module cannot be imported, or if the class is not a subclass of torch.nn.Module.
    """
    check(name)
    module, _, attribute = MODELS.get(name, name).partition(":")
    if name not in MODELS:
        _search_current_directory()
    try:
        network = getattr(import_module(module), attribute)
    except Exception as error:  # the import runs the user's code, which may raise anything
        reason = " ".join(str(error).split())
        raise ModelError(f"model {name!r} cannot be imported: {type(error).__name__}: {reason}") from error

    from torch import nn

    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise ModelError(f"model {name!r} must be a subclass of torch.nn.Module, not {network!r}")
    return network


def build(name: str, classes: int, in_channels: int = 1) -> "nn.Module":
    """Build a network with weights from torch's global generator, on torch's default device.

    Raises ModelError as `resolve` does, and if the class does not take (classes, in_channels).
    """
    network = resolve(name)
    try:
        # By keyword, so that a class may take the two arguments in another order.
        return network(classes=classes, in_channels=in_channels)
    except TypeError as error:
        raise ModelError(
            f"model {name!r} must be buildable as {network.__name__}(classes={classes}, "
            f"in_channels={in_channels}): {error}"
        ) from error


def _search_current_directory() -> None:
    # Last, so that a user's file does not hide an installed package.
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.append(directory)
