"""How training functions fail."""


class FunctionFailure(Exception):  # noqa: N818 - the failure of a trial, not of the program
    """The training function of a trial has failed. The message is the reason that the trial gets.

    `trace`: the traceback in the process of the function, as text.
    """

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.trace = trace


class FunctionKilledError(Exception):
    """The process of a function was killed from outside. The message names the signal."""
