"""The sections of a study file that only a study of a user's own training function has."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from hpo.user_code import is_reference, near_reference
from hpo.values.resources import Resources, parse_memory
from hpo.values.section import Section, rule_error


def _function(reference: str) -> str:
    if not is_reference(reference):
        meant = near_reference(reference)
        hint = f"; did you mean {meant}?" if meant else ""
        raise rule_error(f"must be a function of your own as package.module:function{hint}")
    return reference


SMALLEST_SHARE = 0.01
"""The smallest share of a GPU: there may be as many workers on a GPU as shares."""


def _gpus(count: float | None) -> float | None:
    if count is not None and 0 < count < SMALLEST_SHARE:
        raise rule_error(f"must be 0, or at least {SMALLEST_SHARE}")
    if count is not None and count > 1 and not float(count).is_integer():
        raise rule_error("must be a whole number, or a share of one GPU below 1")
    return count


def _memory(text: str | None) -> str | None:
    if text is not None and parse_memory(text) is None:
        raise rule_error('must be an amount with a unit, such as "8 GB" or "512 MiB"')
    return text


class TrainSection(Section):
    """Your own training function, in place of `[model]` and `[data]`.

    The function takes an `hpo.Trial`. It yields the metrics of each epoch, or returns those of a single one.
    """

    function: Annotated[str, AfterValidator(_function)] = Field(
        description="The function, as `package.module:function`. Its module may be in the working directory."
    )


class FunctionFullSection(Section):
    """Full training of a study with `[train]`. The best epoch counts."""

    epochs: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Epochs of a full training. Unset: `search.epochs`."
    )
    refit: ClassVar[bool] = False  # hpo does not know which of its data the function keeps for validation


class ResourcesSection(Section):
    """What one trial of a study with `[train]` needs. The keys may change in a stored study."""

    gpus: Annotated[float | None, AfterValidator(_gpus)] = Field(
        default=None,
        ge=0,
        description="Number of GPUs, or a share below 1 of one GPU. Unset: 1 where there are GPUs, else 0.",
    )
    cpus: int | None = Field(default=None, ge=1, description="Number of CPU cores.")
    memory: Annotated[str | None, AfterValidator(_memory)] = Field(
        default=None, description='Memory, such as "8 GB" or "512 MiB".'
    )

    def make(self) -> Resources:
        """Return the resources as numbers, with the memory in bytes."""
        return Resources(self.gpus, self.cpus, None if self.memory is None else parse_memory(self.memory))
