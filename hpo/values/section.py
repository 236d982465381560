"""The base of every section of a study file, and how a section says what is wrong with its keys."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A table of the study file: frozen, without unknown keys, without conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def refuse(rule: str) -> PydanticCustomError:
    """Return the error to raise for a value that breaks `rule`."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def refuse_inside(mistakes: Mapping[str, str]) -> PydanticCustomError:
    """Return the error to raise for a section whose keys break rules: a rule for each key."""
    return PydanticCustomError("inside", "{mistakes}", {"mistakes": mistakes})
