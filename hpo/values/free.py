"""Free parameters: those of a user's training function, whose meaning only the function knows."""

from collections.abc import Iterator, Mapping

from hpo.values.parameter import Kind, Parameter, Role
from hpo.values.parameters import MAX_NAME, is_name
from hpo.values.vocabulary import Vocabulary, open_parameter

MAX_PARAMETERS = 100
"""Parameters in a space of free parameters."""


class FreeVocabulary(Vocabulary):
    """Every name in Python is a parameter, and nothing is known of any: all names are open.

    A pack key is empty, and so no value decides which trials share a pack.
    """

    def __init__(self) -> None:
        """Create the vocabulary."""
        super().__init__({})

    def __reduce__(self) -> str:
        return "FREE"

    def flat(self, raw: Mapping[str, object], mistakes: dict[str, str]) -> Iterator[tuple[str, object]]:
        spellings: dict[str, str] = {}
        for index, (name, value) in enumerate(raw.items()):
            yield name, value
            if not is_name(name):
                mistakes[name] = f"is no name in Python of at most {MAX_NAME} of a-z, A-Z, 0-9, '_'"
            elif (other := spellings.setdefault(name.lower(), name)) != name:
                # The names of environment variables (`hpo export --format env`) have capitals only.
                mistakes[name] = f"differs from {other} in capitals only"
            elif index >= MAX_PARAMETERS:
                mistakes[name] = f"is one of {len(raw)} parameters; at most {MAX_PARAMETERS} are searched"

    def open_parameter(self, name: str, kind: Kind) -> Parameter:
        return open_parameter(kind, Role.FREE, f"Parameter {name} of the training function.")


FREE = FreeVocabulary()
