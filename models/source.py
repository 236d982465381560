"""The hash of the code of a user's own network, loss and metrics."""

import hashlib
from collections.abc import Callable

from hpo.models.functions import resolve_function
from hpo.models.registry import MODELS, resolve
from hpo.source_code import source_hash


def code_hash(name: str, *functions: str) -> str | None:
    """Return a digest of the source of the network `name`, see `source_hash`.

    `functions`: a user's own loss and metrics as `package.module:function`, whose sources count as well.
    None: there is no source, as of hpo's own network and of a class without a file. Raises ModelError if the
    network or a function cannot be imported.
    """
    network = None if name in MODELS else _hash(name, resolve)
    hashes = [digest for own in functions if (digest := _hash(own, resolve_function)) is not None]
    if not hashes:
        return network
    return hashlib.sha256("\n".join([network or "", *hashes]).encode()).hexdigest()


def _hash(reference: str, resolve: Callable[[str], object]) -> str | None:
    resolve(reference)
    return source_hash(reference.partition(":")[0])
