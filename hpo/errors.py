"""The errors that a user can meet, with their exit codes.
`hpo.data` adds `DataError`, and `hpo.models` adds `ModelError`, an InputError.

HpoError                 1   root; `hpo` prints the message on stderr, one line for each mistake
├── InputError           2   invalid input from the user: the message names file, key, value and rule
│   ├── SpecError            an invalid study file
│   ├── KeyInputError        a key of a study file that does not fit the network or the data
│   └── ConflictError        a study file that contradicts the stored study of the same name
│       └── NothingCompletedError    no trial of a search completed, so none can be promoted
├── NotFoundError        2   no study, trial or bundle of that name
├── DamagedStudyError    1   a stored study that cannot be read; `hpo study delete` removes it
├── StorageError         1   Postgres refuses, or is not Postgres of the right revision
│   └── UnavailableError     Postgres cannot be reached right now; a retry may succeed
├── ArtifactError        1   a file of a study cannot be read or written
│   ├── AwayError            the artifact store cannot be reached, or lacks the file; a retry may succeed
│   └── ArtifactNameError    a name that could lead out of the artifact store
└── TrainingError        1   this worker cannot train a trial; the study goes on
"""


class HpoError(Exception):
    """Base class of every error that hpo raises on purpose. The message has one line for each mistake."""

    exit_code = 1


class InputError(HpoError):
    """Invalid input from the user."""

    exit_code = 2


class SpecError(InputError):
    """An invalid study file."""


class KeyInputError(InputError):
    """A key of a study file that does not fit the network or the data. The message is the rule it breaks.

    `key`: its name, and perhaps the value that does not fit.
    """

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(rule)
        self.key = key


class ConflictError(InputError):
    """A study file that contradicts the stored study of the same name."""


class NothingCompletedError(ConflictError):
    """No trial of a search completed, so none can be promoted."""


class NotFoundError(HpoError):
    """No study, trial or bundle has the given name."""

    exit_code = 2


class DamagedStudyError(HpoError):
    """A stored study that cannot be read, because another program has changed it."""


class StorageError(HpoError):
    """Postgres refuses, or is not Postgres of the right revision."""


class UnavailableError(StorageError):
    """Postgres cannot be reached right now; a retry may succeed."""


class ArtifactError(HpoError):
    """A file of a study cannot be read or written."""


class AwayError(ArtifactError):
    """The artifact store cannot be reached, or lacks the file; a retry may succeed."""


class ArtifactNameError(ArtifactError):
    """A name that could lead out of the artifact store."""


class TrainingError(HpoError):
    """This worker cannot train a trial; the study goes on."""


def message_of(error: BaseException) -> str:
    """Return the message of any error, empty if its `__str__` raises."""
    try:
        return error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # of a user's class
        return ""


def one_line(error: BaseException) -> str:
    """Return the message of any error as one line, or its kind if it has no message."""
    return " ".join(message_of(error).split()) or type(error).__name__
