"""Architectures by name. This module imports no torch, so that a command can check a name quickly."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from hpo.errors import InputError
from hpo.user_code import import_own, is_reference, near_reference, user_code, where

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


class ModelError(InputError):
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
    if is_reference(name):
        return
    meant = near_reference(name)
    near = [meant] if meant else get_close_matches(name, MODELS)
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
    if name in MODELS:
        module, _, attribute = MODELS[name].partition(":")
        network = getattr(import_module(module), attribute)
    else:
        network = import_own(name, ModelError)

    from torch import nn

    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        kind = type(network).__name__
        if isinstance(network, nn.Module):
            advice = f"is a network and no class; name its class: {name.partition(':')[0]}:{kind}"
        elif isinstance(network, type):
            advice = "must be a subclass of torch.nn.Module"
        else:
            advice = f"must be a subclass of torch.nn.Module, not a {kind}; name the class of the network"
        raise ModelError(f"model {name!r} {advice}")
    return network


def keywords_of(name: str) -> frozenset[str] | None:
    """Return the keywords that the constructor of a network takes, None if it takes any.

    Raises ModelError as `resolve` does.
    """
    try:
        parameters = signature(resolve(name)).parameters.values()
    except ValueError:  # no signature is known
        return None
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in named)


def build(
    name: str,
    classes: int,
    in_channels: int = 1,
    size: tuple[int, int] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> "nn.Module":
    """Build a network that classifies images, as `build_with` does.

    `size`: height and width of the images. With it, lazy layers get their shapes. `keywords`: further
    keywords of the class.
    """
    arguments = {"classes": classes, "in_channels": in_channels, **(keywords or {})}
    return build_with(name, arguments, None if size is None else (in_channels, *size))


def build_with(name: str, arguments: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> "nn.Module":
    """Build a network with weights from torch's global generator, on torch's default device.

    `arguments`: the keywords of the class. `shape`: that of an input. With it, lazy layers get their shapes.
    Raises ModelError as `resolve` does, if the class does not take these arguments, and for whatever the
    class raises.
    """
    network_class = resolve(name)
    call = f"{network_class.__name__}({', '.join(f'{word}={value!r}' for word, value in arguments.items())})"
    module = name.partition(":")[0]
    with user_code(f"model {name!r}: {call}", ModelError, module):
        try:
            # By keyword, so that a class may take the arguments in any order.
            network = network_class(**arguments)
        except TypeError as error:
            if where(error, module) is not None:
                raise  # the constructor was called
            raise ModelError(f"model {name!r} must be buildable as {call}: {error}") from error
    if shape is not None:
        noun = "images" if len(shape) == 3 else "inputs"
        with user_code(f"model {name!r} on 2 {noun} of shape {shape}", ModelError, module):
            _materialise(network, shape)
    return network


def _materialise(network: "nn.Module", shape: tuple[int, ...]) -> None:
    """Give lazy layers their shapes, from two inputs of `shape` that are all 0."""
    import torch
    from torch.nn.parameter import is_lazy

    tensors = [*network.parameters(), *network.buffers()]
    if not any(map(is_lazy, tensors)):
        return
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(2, *shape))  # in evaluation mode, so that no statistics move
    network.train(training)
