"""The errors a user can meet, and the exit code each one ends the command with.

HpoError                 1   anything below; `hpo` prints its message on stderr, one line for each mistake
├── InputError           2   something the user wrote is wrong: the message names file, key, value and rule
│   ├── SpecError            a study file
│   └── ConflictError        a study file that contradicts what is stored under its name
├── NotFoundError        2   no study, trial or bundle of that name
├── StorageError         1   Postgres refuses, or is not Postgres of the right revision
│   └── UnavailableError     it cannot be reached at this moment; another try may succeed
├── AwayError            1   what a trial has written cannot be read at this moment
└── TrainingError        1   a trial cannot be trained here (its study goes on)
"""


class HpoError(Exception):
    """Root of every error this service raises on purpose. The message is one line for each mistake."""

    exit_code = 1


class InputError(HpoError):
    exit_code = 2


class SpecError(InputError):
    pass


class ConflictError(InputError):
    pass


class NotFoundError(HpoError):
    exit_code = 2


class StorageError(HpoError):
    pass


class UnavailableError(StorageError):
    pass


class AwayError(HpoError):
    pass


class TrainingError(HpoError):
    pass
