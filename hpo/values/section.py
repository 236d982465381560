"""The base class of every section of a study file, and the errors its validators raise."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A table of the study file: frozen, without unknown keys, without conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def rule_error(rule: str) -> PydanticCustomError:
    """Return the error to raise for a value that breaks `rule`."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule})


def section_error(mistakes: Mapping[str, str]) -> PydanticCustomError:
    """Return the error to raise for a section; `mistakes` maps each faulty key to the rule it breaks."""
    return PydanticCustomError("inside", "{mistakes}", {"mistakes": mistakes})
