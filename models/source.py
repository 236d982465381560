"""The hash of the code of a user's own network."""

from hpo.models.registry import MODELS, resolve
from hpo.source_code import source_hash


def code_hash(name: str) -> str | None:
    """Return a digest of the source of the network `name`, see `source_hash`.

    None: hpo's own network, or a class without a file. Raises ModelError if the network cannot be imported.
    """
    if name in MODELS:
        return None
    resolve(name)
    return source_hash(name.partition(":")[0])
